#include "buffer.h"

#include <stdint.h>
#include <stdlib.h>

void buffer_wipe (void *memory, size_t length) {
  static void *(*const volatile set)(void *, int, size_t) = memset;
  if (length > 0) set(memory, 0, length);
}

/* Makes room for `more` bytes and a NUL. Not realloc: it would leave the old bytes behind. */
static bool buffer_reserve (struct buffer *b, size_t more) {
  if (b->failed) return false;
  if (more < b->capacity - b->length) return true;
  size_t capacity = b->capacity ? b->capacity : 128;
  while (capacity - b->length <= more) {
    if (capacity > SIZE_MAX / 2) goto error;
    capacity *= 2;
  }
  char *data = malloc(capacity);
  if (data == NULL) goto error;
  if (b->data != NULL) {
    memcpy(data, b->data, b->length);
    buffer_wipe(b->data, b->length);
    free(b->data);
  }
  b->data = data;
  b->capacity = capacity;
  return true;
error:
  b->failed = true;
  return false;
}

bool buffer_append (struct buffer *b, const void *bytes, size_t length) {
  if (!buffer_reserve(b, length)) return false;
  if (length > 0) memcpy(b->data + b->length, bytes, length);
  b->length += length;
  b->data[b->length] = '\0';
  return true;
}

bool buffer_append_string (struct buffer *b, const char *string) {
  return buffer_append(b, string, strlen(string));
}

bool buffer_append_char (struct buffer *b, char c) {
  return buffer_append(b, &c, 1);
}

/* Appends with percent-encoding, leaving what ECMAScript's encodeURIComponent leaves. */
bool buffer_append_encoded (struct buffer *b, const char *bytes, size_t length) {
  static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                              "-_.~!'()*";
  static const char hex[] = "0123456789ABCDEF";
  if (!buffer_reserve(b, length)) return false;
  for (size_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)bytes[i];
    if (c != '\0' && strchr(plain, c) != NULL) {
      buffer_append_char(b, (char)c);
    } else {
      char escape[3] = {'%', hex[c >> 4], hex[c & 15]};
      buffer_append(b, escape, sizeof escape);
    }
  }
  return !b->failed;
}

/* Drops what is behind the first `length` bytes, wiping it. */
void buffer_truncate (struct buffer *b, size_t length) {
  if (length >= b->length) return;
  buffer_wipe(b->data + length, b->length - length);
  b->length = length;
}

/* Wipes and frees; the buffer is then empty and can be used again. */
void buffer_free (struct buffer *b) {
  if (b->data != NULL) buffer_wipe(b->data, b->length);
  free(b->data);
  memset(b, 0, sizeof *b);
}
