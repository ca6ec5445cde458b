/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "out.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static char buffer[65536];
static size_t used;
static int out_fd = STDOUT_FILENO;
static int need_comma;

void out_flush(void)
{
	size_t done = 0;

	while (done < used) {
		ssize_t n = write(out_fd, buffer + done, used - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break; /* nobody reads: the test sees truncated output */
		done += (size_t)n;
	}
	used = 0;
}

void out_to(int fd)
{
	out_flush();
	out_fd = fd;
}

static void put(char c)
{
	if (used == sizeof(buffer))
		out_flush();
	buffer[used++] = c;
}

void out_bytes(const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		put(data[i]);
}

void out_text(const char *text)
{
	out_bytes(text, strlen(text));
}

static void separate(void)
{
	if (need_comma)
		put(',');
	need_comma = 0;
}

void j_open(char bracket)
{
	separate();
	put(bracket);
}

void j_close(char bracket)
{
	put(bracket);
	need_comma = 1;
}

static void quoted(const char *data, size_t len)
{
	static const char hex[] = "0123456789abcdef";

	put('"');
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];

		if (c == '"' || c == '\\') {
			put('\\');
			put((char)c);
		} else if (c == '\n') {
			out_text("\\n");
		} else if (c < 0x20 || c >= 0x7f) {
			out_text("\\u00");
			put(hex[c >> 4]);
			put(hex[c & 15]);
		} else {
			put((char)c);
		}
	}
	put('"');
}

void j_key(const char *name)
{
	separate();
	quoted(name, strlen(name));
	put(':');
}

void j_bytes(const char *data, size_t len)
{
	separate();
	quoted(data, len);
	need_comma = 1;
}

void j_str(const char *text)
{
	if (text) {
		j_bytes(text, strlen(text));
		return;
	}
	separate();
	out_text("null");
	need_comma = 1;
}

void j_uint(unsigned long long value)
{
	char digits[24];
	size_t i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	separate();
	out_bytes(digits + i, sizeof(digits) - i);
	need_comma = 1;
}

void j_int(long long value)
{
	if (value < 0) {
		separate();
		put('-');
		j_uint(0ULL - (unsigned long long)value);
		return;
	}
	j_uint((unsigned long long)value);
}

void j_bool(int value)
{
	separate();
	out_text(value ? "true" : "false");
	need_comma = 1;
}

void j_kstr(const char *name, const char *text)
{
	j_key(name);
	j_str(text);
}

void j_kint(const char *name, long long value)
{
	j_key(name);
	j_int(value);
}

void j_kuint(const char *name, unsigned long long value)
{
	j_key(name);
	j_uint(value);
}

void j_kbool(const char *name, int value)
{
	j_key(name);
	j_bool(value);
}

void j_kerrno(int error)
{
	const char *name;

	if (!error)
		return;
	name = strerrorname_np(error);
	if (name)
		j_kstr("errno", name);
	else
		j_kint("errno", error);
}

void j_line_end(void)
{
	put('\n');
	need_comma = 0;
	out_flush();
}
