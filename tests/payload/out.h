/* SPDX-License-Identifier: Apache-2.0
 *
 * A JSON writer that needs neither stdio nor malloc, so that the probe behaves the same under any seccomp
 * profile or memory limit that a test puts on it.
 *
 * Strings are bytes, not text: every byte outside printable ASCII is written as \u00XX.  The reader
 * (tests/support/report.py) turns each such character back into one byte.
 */
#ifndef PROBE_OUT_H
#define PROBE_OUT_H

#include <stddef.h>

void out_to(int fd);                           /* choose the descriptor; flushes what was pending */
void out_flush(void);
void out_bytes(const char *data, size_t len);  /* raw, for verbs that print plain text */
void out_text(const char *text);

void j_open(char bracket);                     /* '{' or '[' */
void j_close(char bracket);
void j_key(const char *name);
void j_bytes(const char *data, size_t len);
void j_str(const char *text);                  /* NULL becomes null */
void j_int(long long value);
void j_uint(unsigned long long value);
void j_bool(int value);

/* name/value pairs inside an object */
void j_kstr(const char *name, const char *text);
void j_kint(const char *name, long long value);
void j_kuint(const char *name, unsigned long long value);
void j_kbool(const char *name, int value);

/* "errno": "ENOENT" (or the number when the name is unknown); nothing when error is 0 */
void j_kerrno(int error);

/* ends a line of output and sends it with as few write calls as possible */
void j_line_end(void);

#endif
