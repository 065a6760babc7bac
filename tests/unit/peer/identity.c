/* Certificates that are kept in files, and pins when one peer calls another. */
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];
static char path[128];
static dp_file_error error;

static int make_folder(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/datapeer-identity-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/state/certificate.pem", folder);
    memset(&error, 0, sizeof(error));
    return set_up(state);
}

static int remove_folder(void **state)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command) + tear_down(state);
}

static dp_certificate *keep(void)
{
    dp_random random = dp_csprng_source(csprng);
    dp_certificate *certificate = NULL;
    assert_int_equal(dp_certificate_keep(&certificate, path, &random, &error), DP_OK);
    return certificate;
}

static dp_fingerprint fingerprint_of(const dp_certificate *certificate)
{
    dp_fingerprint fp;
    dp_certificate_fingerprint(certificate, &fp);
    return fp;
}

static void write_pem(const char *text, size_t len)
{
    unlink(path);
    assert_int_equal(dp_secret_file_create(path, text, len, &error), DP_OK);
}

static void refused(int code, const char *why)
{
    dp_random random = dp_csprng_source(csprng);
    dp_certificate *certificate = NULL;
    assert_int_equal(dp_certificate_keep(&certificate, path, &random, &error), code);
    assert_null(certificate);
    assert_non_null(strstr(error.message, path));
    if (strstr(error.message, why) == NULL)
        fail_msg("'%s' says nothing of '%s'", error.message, why);
}

/* ---- the file ---- */

static void the_second_start_finds_the_first_ones(void **state)
{
    (void)state;
    dp_certificate *made = keep();
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    int64_t left = dp_certificate_expires(made) - dp_clock_unix();
    assert_true(left > 364 * 86400 && left <= 365 * 86400);
    dp_fingerprint first = fingerprint_of(made);
    dp_certificate_free(made);
    made = keep();
    dp_fingerprint second = fingerprint_of(made);
    dp_certificate_free(made);
    assert_memory_equal(&first, &second, sizeof(first));
}

/* Peers know it by the fingerprint: a date would only break what works. */
static void an_expired_one_goes_on(void **state)
{
    (void)state;
    char pem[2048];
    dp_certificate *old = NULL;
    dp_random random = dp_csprng_source(csprng);
    assert_int_equal(dp_certificate_generate(&old, &random, 1000000000), DP_OK);
    assert_int_equal(dp_certificate_to_pem(old, pem, sizeof(pem)), DP_OK);
    write_pem(pem, strlen(pem));
    dp_certificate *kept = keep();
    assert_true(dp_certificate_expires(kept) < dp_clock_unix());
    dp_fingerprint pin = fingerprint_of(old);
    dp_peer_config config = config_of(&b, "callee");
    config.certificate = kept;
    start_with(&b, &config);
    start(&a, "caller");
    dp_connect_options options = {.size = sizeof(options), .remote_fingerprint = &pin};
    call_with(&options);
    WAIT(a.count[OPEN] == 1 && b.count[OPEN] == 1);
    destroy(&a);
    destroy(&b);
    settle(); /* the peer has borrowed it */
    dp_certificate_free(kept);
    dp_certificate_free(old);
}

static void bad_files_are_explained(void **state)
{
    (void)state;
    char pem[2048], other[2048], mixed[4096];
    dp_certificate_free(keep());
    size_t len;
    assert_int_equal(dp_secret_file_read((uint8_t *)pem, sizeof(pem) - 1, &len, path, &error), DP_OK);
    pem[len] = '\0';
    unlink(path);
    dp_certificate *another = keep();
    assert_int_equal(dp_certificate_to_pem(another, other, sizeof(other)), DP_OK);
    dp_certificate_free(another);
    size_t key_len = (size_t)(strstr(pem, "-----BEGIN CERTIFICATE") - pem);

    write_pem("", 0);
    refused(DP_ERR_MALFORMED, "is empty: move it away");
    write_pem("\xff\xfe garbage", 10);
    refused(DP_ERR_MALFORMED, "no private key");
    write_pem(pem + key_len, len - key_len);
    refused(DP_ERR_MALFORMED, "no private key");
    write_pem(pem, key_len);
    refused(DP_ERR_MALFORMED, "no certificate");
    snprintf(mixed, sizeof(mixed), "%.*s%s", (int)key_len, pem, strstr(other, "-----BEGIN CERTIFICATE"));
    write_pem(mixed, strlen(mixed));
    refused(DP_ERR_MALFORMED, "belong together");
    memcpy(mixed, pem, len);
    memset(mixed + key_len + 100, 'A', 10);
    write_pem(mixed, len);
    refused(DP_ERR_MALFORMED, "can't be read");
    memcpy(mixed, pem, len + 1);
    write_pem(mixed, len + 1); /* a NUL at its end */
    refused(DP_ERR_MALFORMED, "can't be read");
    char *large = calloc(1, 16385);
    write_pem(large, 16385);
    free(large);
    refused(DP_ERR_TOO_LARGE, "16385 bytes");
    write_pem(pem, len);
    assert_int_equal(chmod(path, 0644), 0);
    refused(DP_ERR_DENIED, "chmod 600");
    strcat(path, "/no/folder"); /* beneath a file */
    refused(DP_ERR_IO, strerror(ENOTDIR));
}

/* openssl genrsa 1024; the certificate is never looked at. */
static void an_rsa_key_is_refused(void **state)
{
    (void)state;
    static const char pem[] = "-----BEGIN PRIVATE KEY-----\n"
                              "MIICdgIBADANBgkqhkiG9w0BAQEFAASCAmAwggJcAgEAAoGBAKVAztdwWIU//AKz\n"
                              "kDzfuXKuvCB6L0iuZGsPnODEh+6fjypnorWEEWru5iwYSn20mJtGLPV5Ng6o6fq0\n"
                              "8O3PbCYEZ9z0bDC4c87KZ4H6ZZLfTVcYmS7Jg9ryLrW/7Ls0Ub/Cb9uznEj+xfgB\n"
                              "Kpzw1W90z3W2+kfO404VJHgqadfFAgMBAAECgYAnb8fs8gquAg8KNf/+BwYisECF\n"
                              "H6OZHMUqJ5ewrDYkZD+uRv01hEcD1e9oJoPga/DfXWftTPfxl63+/p9goVeVeMl2\n"
                              "t0mYgQkdv4wIozvl4tHX547KIL8+nRyOxX/0Y+JeaN0p7auRFSpFYcxuvkHK7Qvy\n"
                              "JVnFQNbCW8Br/HlgAQJBANW8G5KFefw3/tWXH0aTc9bqQkkE+aAKmdR6RpBx2mEo\n"
                              "bkOeTI/iISfxwyFhn1+BNY44sb9YeHkoC4ubYlMXYQECQQDF7mpKdOzF5atpU7i/\n"
                              "Agd7wVFqgoCYO1PFIhqPfAabAXkeg7s42bvtbYDBo0Tjr3nz1T122QbQO0Xml8Fu\n"
                              "ejLFAkB1o0YtvAdq+crp9naBWtEMPf1jwTg/jPYkC3ThNbjzdtRRpUQQgW6sVJWI\n"
                              "vvmAEFbQw4WZgnE0hgTsvwY8I4cBAkEAm/aeyKbTv6iW5frzk4cM0IZnGg9VNx9g\n"
                              "hfC2jyOCrPd/Mf1JNKXVQGRN1cdKTEMETI9VzGV8ye46yVYBNIWTpQJAOrKn4/Z+\n"
                              "MjNbklO8pZU9IKZyWH+Bp31Qni47ki4AEb9sIfNOt/g2ydkbBfwokru4li0A9lLo\n"
                              "YycMfQvz3sCYGQ==\n"
                              "-----END PRIVATE KEY-----\n"
                              "-----BEGIN CERTIFICATE-----\n";
    write_pem(pem, sizeof(pem) - 1);
    refused(DP_ERR_UNSUPPORTED, "ECDSA P-256");
}

/* Two that are started at the same time are one device, whoever was first. */
static void of_two_at_once_both_have_the_same(void **state)
{
    (void)state;
    enum { RIVALS = 6 };
    int go[2], result[2];
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(result), 0);
    for (int i = 0; i < RIVALS; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid > 0)
            continue;
        char byte;
        dp_csprng *own = NULL; /* the parent's would make the same certificate in all of them */
        dp_certificate *certificate = NULL;
        if (dp_csprng_new(&own) != DP_OK)
            _exit(1);
        dp_random random = dp_csprng_source(own);
        close(go[1]);
        (void)!read(go[0], &byte, 1);
        if (dp_certificate_keep(&certificate, path, &random, &error) != DP_OK)
            _exit(1);
        dp_fingerprint fp = fingerprint_of(certificate);
        _exit(write(result[1], &fp, sizeof(fp)) == sizeof(fp) ? 0 : 1);
    }
    close(go[0]);
    close(go[1]);
    dp_fingerprint first, next;
    for (int i = 0; i < RIVALS; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
        assert_int_equal(read(result[0], i == 0 ? &first : &next, sizeof(first)), sizeof(first));
        if (i > 0)
            assert_memory_equal(&first, &next, sizeof(first));
    }
    close(result[0]);
    close(result[1]);
}

static int broken_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 0, len);
    return DP_ERR_CRYPTO;
}

static void no_random_bytes(void **state)
{
    (void)state;
    dp_random broken = {broken_random, NULL};
    dp_certificate *certificate = NULL;
    assert_int_equal(dp_certificate_keep(&certificate, path, &broken, &error), DP_ERR_CRYPTO);
    assert_null(certificate);
    assert_non_null(strstr(error.message, "no certificate can be made"));
    assert_int_equal(access(path, F_OK), -1);
}

/* ---- pins ---- */

static void a_wrong_pin_ends_the_call(void **state)
{
    (void)state;
    dp_certificate *kept = keep();
    dp_fingerprint pin = fingerprint_of(kept);
    dp_certificate_free(kept); /* nobody has it */
    start(&a, "caller");
    start(&b, "callee");
    dp_connect_options options = {.size = sizeof(options), .remote_fingerprint = &pin};
    call_with(&options);
    WAIT(a.count[CLOSED] == 1);
    char text[DP_FINGERPRINT_TEXT_MAX];
    assert_string_equal(a.error_type, "wrong-fingerprint");
    assert_non_null(strstr(a.error_message, dp_fingerprint_format(&pin, text)));
    assert_int_equal(a.count[FAILED], 1);
    assert_int_equal(a.count[OPEN] + b.count[OPEN], 0);

    pin.length = 0; /* the caller's mistake */
    assert_int_equal(dp_peer_connect(a.peer, &a.conn, "callee", &options), DP_ERR_INVALID_ARGUMENT);
}

static unsigned logged;
static void count_line(void *ctx, const char *line)
{
    assert_ptr_equal(ctx, &logged);
    logged += strncmp(line, "CLIENT_RANDOM ", 14) == 0;
}

static void keys_are_logged_if_asked_for(void **state)
{
    (void)state;
    dp_peer_config config = config_of(&a, "caller");
    config.key_log = (dp_key_log){count_line, &logged};
    start_with(&a, &config);
    start(&b, "callee");
    call_as("binary", false);
    WAIT(a.count[OPEN] == 1 && b.count[OPEN] == 1);
    assert_int_equal(logged, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_second_start_finds_the_first_ones),
        TEST(an_expired_one_goes_on),
        TEST(bad_files_are_explained),
        TEST(an_rsa_key_is_refused),
        TEST(of_two_at_once_both_have_the_same),
        TEST(no_random_bytes),
        TEST(a_wrong_pin_ends_the_call),
        TEST(keys_are_logged_if_asked_for),
    };
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
