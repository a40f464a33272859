/* Bytes that grow, and are wiped before their memory goes back to the allocator. */
#ifndef CLOUDSYNC_BUFFER_H
#define CLOUDSYNC_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/*
 * All zeros is an empty buffer. When memory runs out the buffer keeps what it has, `failed` is
 * set, and further appends do nothing: a builder checks once, at its end.
 */
struct buffer {
  char *data; /* ended by a NUL that length does not count; NULL while empty */
  size_t length, capacity;
  bool failed;
};

bool buffer_append (struct buffer *b, const void *bytes, size_t length);
bool buffer_append_string (struct buffer *b, const char *string);
bool buffer_append_char (struct buffer *b, char c);
bool buffer_append_encoded (struct buffer *b, const char *bytes, size_t length);
void buffer_truncate (struct buffer *b, size_t length);
void buffer_free (struct buffer *b);

/* Fills memory with zeros in a way that the compiler does not leave out. */
void buffer_wipe (void *memory, size_t length);

#endif
