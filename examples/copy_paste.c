/* Two people, two terminals, no server: a chat whose descriptions are carried by hand. One runs `copy_paste offer`, the
 * other `copy_paste answer`; each pastes what the other's terminal prints, then types lines. Ctrl-D ends it. */
#include <datapeer/datapeer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SDP_MAX = 16384 };

static dp_loop *loop;
static dp_pc_loop *run;
static dp_channel *channel;
static bool offerer, described;
static char sdp[SDP_MAX], pasted[SDP_MAX];
static size_t pasted_len;

static void print_description(int error, size_t len)
{
    if (error != DP_OK) {
        fprintf(stderr, "copy_paste: %s\n", dp_strerror(error));
        dp_loop_stop(loop);
        return;
    }
    printf("--- give this to the other side, with the empty line behind it ---\n%.*s\n", (int)len, sdp);
    fflush(stdout);
}

static void on_event(void *user, const dp_pc_event *event)
{
    (void)user;
    if (event->type == DP_PC_EVENT_CHANNEL_OPEN) {
        channel = event->channel;
        printf("--- connected: type ---\n");
    } else if (event->type == DP_PC_EVENT_MESSAGE) {
        printf("> %.*s\n", (int)event->len, (const char *)event->data);
    } else if (event->type == DP_PC_EVENT_STATE) {
        printf("--- %s%s%s ---\n", dp_pc_state_name(event->state), event->state == DP_PC_FAILED ? ": " : "",
               event->state == DP_PC_FAILED ? event->message : "");
        if (event->state == DP_PC_FAILED || event->state == DP_PC_CLOSED)
            dp_loop_stop(loop);
    }
    fflush(stdout);
}

/* The other side's description is complete. */
static void take_description(void)
{
    dp_pc *pc = dp_pc_loop_pc(run);
    dp_time now = dp_loop_now(loop);
    dp_sdp_error why = {0};
    size_t len = 0;
    int error = dp_pc_set_remote_description(pc, now, offerer ? DP_SDP_ANSWER : DP_SDP_OFFER, pasted,
                                             pasted_len, &why);
    pasted_len = 0;
    if (error != DP_OK) {
        fprintf(stderr, "copy_paste: line %u: %s; paste again\n", why.line, why.message);
        return;
    }
    described = true;
    if (offerer)
        return;
    error = dp_pc_create_answer(pc, now, sdp, sizeof(sdp), &len);
    print_description(error, len);
}

static void on_line(char *line, size_t len)
{
    if (channel != NULL) {
        dp_channel_send(channel, dp_loop_now(loop), (const uint8_t *)line, len, false, false);
    } else if (!described && len == 0 && pasted_len > 0) {
        take_description();
    } else if (!described && pasted_len + len + 2 < sizeof(pasted) && len > 1 && line[1] == '=') {
        /* Only "v=", "a=" and so on: prompts may be pasted, too. */
        pasted_len +=
            (size_t)snprintf(pasted + pasted_len, sizeof(pasted) - pasted_len, "%.*s\r\n", (int)len, line);
    }
    dp_pc_loop_wake(run);
}

static void on_input(void *user, int ready)
{
    static char line[SDP_MAX];
    static size_t len;
    char text[4096];
    (void)user, (void)ready;
    ssize_t n = read(STDIN_FILENO, text, sizeof(text));
    if (n <= 0)
        dp_loop_stop(loop);
    for (ssize_t i = 0; i < n; i++) {
        if (text[i] == '\n') {
            on_line(line, len);
            len = 0;
        } else if (text[i] != '\r' && len < sizeof(line)) {
            line[len++] = text[i];
        }
    }
}

int main(int argc, char **argv)
{
    dp_csprng *csprng;
    dp_certificate *certificate;
    dp_watch *input;
    offerer = argc == 2 && strcmp(argv[1], "offer") == 0;
    if (!offerer && (argc != 2 || strcmp(argv[1], "answer") != 0))
        return fprintf(stderr, "usage: copy_paste offer|answer\n"), 2;
    if (dp_loop_new(&loop) != DP_OK || dp_csprng_new(&csprng) != DP_OK)
        return 1;
    dp_random random = dp_csprng_source(csprng);
    if (dp_certificate_generate(&certificate, &random, dp_clock_unix()) != DP_OK ||
        dp_watch_new(&input, loop, STDIN_FILENO, DP_READABLE, on_input, NULL) != DP_OK)
        return 1;
    dp_pc_loop_config config = {
        .size = sizeof(config),
        .loop = loop,
        .pc = {.size = sizeof(config.pc), .random = random, .certificate = certificate},
        .on_event = on_event};
    int error = dp_pc_loop_new(&run, &config);
    if (error != DP_OK)
        return fprintf(stderr, "copy_paste: %s\n", dp_strerror(error)), 1;
    if (offerer) {
        size_t len = 0;
        dp_channel_init init = DP_CHANNEL_INIT("chat");
        dp_channel *made;
        error = dp_pc_create_channel(dp_pc_loop_pc(run), &made, dp_loop_now(loop), &init);
        if (error == DP_OK)
            error = dp_pc_create_offer(dp_pc_loop_pc(run), dp_loop_now(loop), sdp, sizeof(sdp), &len);
        print_description(error, len);
    } else {
        printf("--- paste the offer, then an empty line ---\n");
        fflush(stdout);
    }
    error = dp_loop_run(loop);
    dp_pc_loop_free(run);
    dp_watch_free(input);
    dp_certificate_free(certificate);
    dp_csprng_free(csprng);
    dp_loop_free(loop);
    return error == DP_OK ? 0 : 1;
}
