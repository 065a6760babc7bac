/* Public structs that a caller fills in begin with their size as its compiler knew it, so that they can grow: a program
 * built against an older header passes a shorter one, and the fields that it lacks have their defaults; one built against
 * a newer header passes a longer one. (A new field never goes into the padding of the old struct.) */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* out, a struct of capacity bytes that holds the defaults, takes over what the caller knew of it. False if given is NULL
 * or has less than the first required bytes. */
static inline bool dp_config_read(void *out, size_t capacity, const void *given, size_t required)
{
    size_t size;
    if (given == NULL)
        return false;
    memcpy(&size, given, sizeof(size));
    if (size < sizeof(size) || size < required)
        return false;
    memcpy(out, given, size < capacity ? size : capacity);
    return true;
}

/* out and given point to structs of the same type; optional is the first field that a caller may not know. */
#define DP_CONFIG_READ(out, given, type, optional)                                                           \
    dp_config_read((1 ? (out) : (type *)NULL), sizeof(type), (1 ? (given) : (const type *)NULL),             \
                   offsetof(type, optional))

#endif
