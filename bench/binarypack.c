/* How fast BinaryPack packs and unpacks: one context with 1 MiB of bytes, and one with many small values. */
#include <datapeer/rpc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(bool ok)
{
    if (!ok) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
}

static dp_value *large_bytes(void)
{
    uint8_t *bytes = calloc(1, 1 << 20);
    must(bytes != NULL);
    dp_value *context = dp_value_map();
    must(dp_value_set(context, "action", dp_value_string("put")) == DP_OK);
    must(dp_value_set(context, "data", dp_value_bytes(bytes, 1 << 20)) == DP_OK);
    free(bytes);
    return context;
}

/* A folder's listing. */
static dp_value *small_values(void)
{
    dp_value *list = dp_value_array();
    for (int i = 0; i < 10000; i++) {
        char name[32];
        snprintf(name, sizeof(name), "photo-%05d.jpg", i);
        dp_value *entry = dp_value_map();
        must(dp_value_set(entry, "name", dp_value_string(name)) == DP_OK);
        must(dp_value_set(entry, "size", dp_value_int(i * 1234)) == DP_OK);
        must(dp_value_set(entry, "folder", dp_value_bool(false)) == DP_OK);
        must(dp_value_set(entry, "changed", dp_value_double(1732492800.5 + i)) == DP_OK);
        must(dp_value_push(list, entry) == DP_OK);
    }
    return list;
}

static void run(const char *name, dp_value *value)
{
    uint8_t *packed = NULL;
    size_t len = 0;
    int rounds = 0;
    double start = seconds();
    double took;
    do {
        dp_free(packed);
        must(dp_binarypack_encode(value, &packed, &len) == DP_OK);
        rounds++;
        took = seconds() - start;
    } while (took < 0.5);
    double encode = (double)len * rounds / took / 1e6;
    rounds = 0;
    start = seconds();
    do {
        dp_value *again = NULL;
        must(dp_binarypack_decode(&again, packed, len) == DP_OK);
        dp_value_free(again);
        rounds++;
        took = seconds() - start;
    } while (took < 0.5);
    printf("%-12s %8zu bytes packed: encode %7.0f MB/s, decode and free %7.0f MB/s\n", name, len, encode,
           (double)len * rounds / took / 1e6);
    dp_free(packed);
    dp_value_free(value);
}

int main(void)
{
    run("1 MiB bytes", large_bytes());
    run("10000 files", small_values());
    return 0;
}
