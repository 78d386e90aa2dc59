/* A Graph API that accepts every message, and a webhook receiver that takes every event: the far side of a benchmark.
 *
 *   graph_stub DELAY_MS
 *
 * Listens on a free port of loopback and prints it. Each POST to a path that ends in /messages is answered after
 * DELAY_MS as Meta answers it, with an id that was never given before; each POST to /hook gets an empty 200 at once;
 * GET /counts gives how many there were. Anything else is a Graph error. HTTP/1.1 with Content-Length, keep-alive and
 * pipelining; one thread, epoll. Ends when its standard input does, so that it never outlives who started it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 16384, REQUEST = 262144, ANSWER = 1024, EVENTS = 256 };

struct connection {
    char *data;           /* what has arrived and is not answered yet */
    size_t length;
    unsigned generation;  /* counts reuse of the descriptor: a late answer must not reach its next owner */
};

struct late_answer {
    double due;
    int descriptor;
    unsigned generation;
    size_t length;
    char text[ANSWER];
};

static struct connection connections[CONNECTIONS];
static struct late_answer *late;  /* a circular queue: the delay is the same for all, so the order is that of arrival */
static size_t late_first, late_count, late_room;
static unsigned long messages, events;
static unsigned long long seed;
static double delay;
static int poller;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void drop(int descriptor)
{
    close(descriptor);
    connections[descriptor].length = 0;
    connections[descriptor].generation++;
}

static void reply(int descriptor, const char *text, size_t length)
{
    while (length) {
        ssize_t sent = send(descriptor, text, length, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) { usleep(50); continue; }  /* the reader is slower than its own requests: wait */
            return;
        }
        text += sent;
        length -= (size_t)sent;
    }
}

static size_t http(char *out, int status, const char *body)
{
    return (size_t)snprintf(out, ANSWER, "HTTP/1.1 %d %s\r\nContent-Type: application/json; charset=UTF-8\r\n"
        "Content-Length: %zu\r\n\r\n%s", status, status == 200 ? "OK" : "Bad Request", strlen(body), body);
}

/* The value of "to" in the body, digits only: what Meta returns as the contact. */
static void recipient(const char *body, size_t length, char *out, size_t room)
{
    const char *at = memmem(body, length, "\"to\"", 4), *end = body + length;
    size_t n = 0;
    for (at = at ? at + 4 : end; at < end && (*at < '0' || *at > '9'); at++) if (*at == ',') break;
    for (; at < end && *at >= '0' && *at <= '9' && n + 1 < room; at++) out[n++] = *at;
    out[n] = 0;
}

static void answer(int descriptor, const char *head, size_t path_length, const char *body, size_t body_length)
{
    const char *path = strchr(head, ' ') + 1;
    char text[512], out[ANSWER], to[32];
    size_t length;
    int is_post = !strncmp(head, "POST ", 5);
    if (is_post && path_length >= 9 && !strncmp(path + path_length - 9, "/messages", 9)) {
        messages++;
        recipient(body, body_length, to, sizeof to);
        snprintf(text, sizeof text, "{\"messaging_product\":\"whatsapp\",\"contacts\":[{\"input\":\"%s\",\"wa_id\":\"%s\"}],"
            "\"messages\":[{\"id\":\"wamid.HBgN%016llX%012lX\"}]}", to, to, seed, messages);
        length = http(out, 200, text);
        if (delay > 0) {
            if (late_count == late_room) { fputs("graph_stub: too many late answers\n", stderr); exit(1); }
            struct late_answer *one = &late[(late_first + late_count++) % late_room];
            one->due = now() + delay;
            one->descriptor = descriptor;
            one->generation = connections[descriptor].generation;
            one->length = length;
            memcpy(one->text, out, length);
            return;
        }
    } else if (is_post && path_length == 5 && !strncmp(path, "/hook", 5)) {
        events++;
        length = http(out, 200, "{}");
    } else if (!strncmp(head, "GET /counts ", 12)) {
        snprintf(text, sizeof text, "{\"messages\":%lu,\"events\":%lu}", messages, events);
        length = http(out, 200, text);
    } else {
        length = http(out, 400, "{\"error\":{\"message\":\"Unsupported request\",\"type\":\"GraphMethodException\","
            "\"code\":100,\"fbtrace_id\":\"stub\"}}");
    }
    reply(descriptor, out, length);
}

/* Answers each complete request among what has arrived; returns 0 when the connection must end. */
static int answer_all(int descriptor)
{
    struct connection *c = &connections[descriptor];
    size_t at = 0;
    for (;;) {
        c->data[c->length] = 0;
        char *head = c->data + at;
        char *end = memmem(head, c->length - at, "\r\n\r\n", 4);
        if (!end) break;
        *end = 0;
        char *field = strcasestr(head, "\r\ncontent-length:");
        char *space = strchr(head, ' ');
        char *after = space ? strchr(space + 1, ' ') : NULL;
        size_t body_length = field ? strtoul(field + 17, NULL, 10) : 0;
        int expected = strcasestr(head, "\r\nexpect: 100-continue") != NULL;
        int chunked = strcasestr(head, "\r\ntransfer-encoding:") != NULL;
        *end = '\r';
        if (!after || chunked || body_length > REQUEST) return 0;
        if (expected && c->length - at == (size_t)(end + 4 - head)) reply(descriptor, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        size_t whole = (size_t)(end + 4 - head) + body_length;
        if (c->length - at < whole) break;
        answer(descriptor, head, (size_t)(after - space - 1), end + 4, body_length);
        at += whole;
    }
    if (at) {
        memmove(c->data, c->data + at, c->length - at);
        c->length -= at;
    }
    return c->length < REQUEST;
}

static void accept_all(int listener)
{
    int descriptor, on = 1;
    while ((descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (descriptor >= CONNECTIONS) { close(descriptor); continue; }
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (!connections[descriptor].data && !(connections[descriptor].data = malloc(REQUEST + 1))) fail("malloc");
        struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
        epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event);
    }
}

static void send_due(void)
{
    double time = now();
    while (late_count && late[late_first].due <= time) {
        struct late_answer *one = &late[late_first];
        if (connections[one->descriptor].generation == one->generation) reply(one->descriptor, one->text, one->length);
        late_first = (late_first + 1) % late_room;
        late_count--;
    }
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct epoll_event event = {.events = EPOLLIN}, ready[EVENTS];
    struct timespec started;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    delay = count > 1 ? atof(arguments[1]) / 1e3 : 0;
    late_room = delay > 0 ? 65536 : 1;
    late = malloc(late_room * sizeof *late);
    clock_gettime(CLOCK_REALTIME, &started);
    seed = (unsigned long long)started.tv_sec * 1000000000ULL + (unsigned long long)started.tv_nsec;
    if (listener < 0 || bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
    getsockname(listener, (void *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    poller = epoll_create1(0);
    event.data.fd = listener;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = 0;
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event);
    for (;;) {
        int wait = -1;
        if (late_count) {
            double left = late[late_first].due - now();
            wait = left <= 0 ? 0 : (int)(left * 1e3) + 1;
        }
        int n = epoll_wait(poller, ready, EVENTS, wait);
        if (late_count) send_due();
        for (int i = 0; i < n; i++) {
            int descriptor = ready[i].data.fd;
            if (descriptor == 0) return 0;
            if (descriptor == listener) { accept_all(listener); continue; }
            struct connection *c = &connections[descriptor];
            ssize_t got = recv(descriptor, c->data + c->length, REQUEST - c->length, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) { drop(descriptor); continue; }
            c->length += (size_t)got;
            if (!answer_all(descriptor)) drop(descriptor);
        }
    }
}
