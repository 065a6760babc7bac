/* DNS messages as far as multicast DNS needs them (RFC 1035 §4.1, RFC 6762 §18): questions, addresses, and NSEC
 * records, which say that a name has no address of a family. */
#ifndef ICE_DNS_H
#define ICE_DNS_H

#include "base/rd.h"
#include "base/wr.h"
#include <datapeer/base.h>

#define DP_DNS_HEADER_LEN  12
#define DP_DNS_NAME_MAX    253  /* characters; 255 octets on the wire (RFC 1035 §2.3.4) */
#define DP_DNS_LABEL_MAX   63   /* RFC 1035 §2.3.4 */
#define DP_DNS_MESSAGE_MAX 9000 /* RFC 6762 §17 */

enum { DP_DNS_A = 1, DP_DNS_AAAA = 28, DP_DNS_NSEC = 47, DP_DNS_ANY = 255 };
enum { DP_DNS_IN = 1 };

/* A message that is being read: first its questions, then its records. */
typedef struct dp_dns_message {
    const uint8_t *data;
    size_t len;
    dp_rd rd; /* its error says that the message is malformed */
    uint16_t id;
    bool response;
    unsigned questions; /* that are left */
    unsigned answers;   /* likewise, in the answer section */
    unsigned records;   /* likewise, in all sections */
} dp_dns_message;

typedef struct dp_dns_question {
    char name[DP_DNS_NAME_MAX + 1]; /* empty: the root, or a name with a dot or NUL inside a label */
    uint16_t type;
    uint16_t class_; /* without the top bit */
    bool unicast;    /* the top bit (RFC 6762 §5.4): the answer may come by unicast */
} dp_dns_question;

typedef struct dp_dns_record {
    char name[DP_DNS_NAME_MAX + 1]; /* as above */
    uint16_t type;                  /* 0: an NSEC that can't be read */
    uint16_t class_;                /* without the top bit */
    bool flush;         /* the top bit (RFC 6762 §10.2): older records of this name and type are void */
    bool answer;        /* in the answer section */
    uint32_t ttl;       /* seconds */
    dp_address address; /* of A and AAAA, port 0; of NSEC nothing */
    bool has_a;         /* of NSEC: the name has such records */
    bool has_aaaa;
} dp_dns_record;

/* MALFORMED; UNSUPPORTED if opcode or rcode is not 0 (RFC 6762 §18.3, §18.11: silently ignored). */
int dp_dns_read_header(dp_dns_message *out, const uint8_t *data, size_t len);
/* The next one; false at the end or where the message is malformed (message->rd.error). */
bool dp_dns_next_question(dp_dns_message *message, dp_dns_question *out);
/* Skips questions that were not read. */
bool dp_dns_next_record(dp_dns_message *message, dp_dns_record *out);

/* Labels of 1 to 63 characters, joined by dots, DP_DNS_NAME_MAX in all. */
bool dp_dns_name_valid(const char *name);
/* ASCII case ignored (RFC 6762 §16). */
bool dp_dns_name_equal(const char *a, const char *b);

/* A message that is being written: header, questions, answers, additional records, in this order. */
typedef struct dp_dns_writer {
    dp_wr wr;
    uint16_t questions;
    uint16_t answers;
    uint16_t additional;
    const char *name; /* the last name and where it stands; the same name again costs two bytes. Borrowed. */
    size_t name_at;
} dp_dns_writer;

void dp_dns_start(dp_dns_writer *out, uint8_t *data, size_t capacity, uint16_t id, bool response);
void dp_dns_write_question(dp_dns_writer *writer, const char *name, uint16_t type, bool unicast);
void dp_dns_write_address(dp_dns_writer *writer, const char *name, const dp_address *address, uint32_t ttl,
                          bool flush);
/* An additional record: name has these types and no others. */
void dp_dns_write_nsec(dp_dns_writer *writer, const char *name, bool has_a, bool has_aaaa, uint32_t ttl);
/* NO_SPACE also if a name was not valid. */
int dp_dns_finish(dp_dns_writer *writer, size_t *len);

#endif
