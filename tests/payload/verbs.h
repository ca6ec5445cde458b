/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_VERBS_H
#define PROBE_VERBS_H

/* kernel.c: system calls by number or name, keys, network interfaces, the attack on other processes' exe */
int verb_syscall(int argc, char **argv);
int verb_syscall32(int argc, char **argv);
int verb_keyctl(int argc, char **argv);
int verb_netif(int argc, char **argv);
int verb_exe_attack(int argc, char **argv);

/* network.c */
int verb_network(int argc, char **argv);
int verb_tcp(int argc, char **argv);

/* load.c */
int verb_burn(int argc, char **argv);
int verb_disk(int argc, char **argv);

/* hook.c */
int verb_hook(int argc, char **argv);

#endif
