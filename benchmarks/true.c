/* SPDX-License-Identifier: Apache-2.0
 *
 * The payload of every benchmark: exits with status 0, without libc. */
#include <asm/unistd.h>

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %edi, %edi\n\tmov $231, %eax\n\tsyscall\n");
#else
__asm__(".globl _start\n_start:\n\tmov x0, #0\n\tmov x8, #94\n\tsvc #0\n");
#endif
