/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_REPORT_H
#define PROBE_REPORT_H

#include <stddef.h>
#include <sys/stat.h>

/* argv and environ as the kernel gave them to main */
extern char **probe_argv;

/* every member of the report, to be written inside an object that is already open */
void report_members(void);

/* a descriptor of the report's own, which it leaves out; -1 for none */
extern int report_own_fd;

/* one file's metadata as an object */
void report_stat(const char *path, int follow);

/* reads a whole (small) file; returns its length or -errno */
long slurp(const char *path, char *data, size_t size);

/* a file's contents as a member; null when it cannot be read */
void report_file(const char *key, const char *path);

/* the raw getcwd system call: glibc's wrapper hides "(unreachable)" */
void report_cwd(const char *key);

const char *type_name(mode_t mode);

#endif
