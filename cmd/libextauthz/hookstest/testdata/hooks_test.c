// A program that calls the hooks as Envoy does, with an Envoy and a decision of its own: hooks_test.go runs it
// with sanitizers. Everything that Envoy or the decision lends is freed as soon as it may be.
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../hooks.c"

// ---- Envoy

typedef struct {
	pthread_mutex_t mutex;
	int scheduled; // events that are not handled
	int schedulers;
	size_t headers;
	bool no_headers, no_scheduler, cannot_set;
	int sent, set, removed, resumed;
	uint32_t status;
	size_t metadata;
} envoy;

static size_t total(const field *fields, size_t n) { // reads every byte
	size_t sum = 0;
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < fields[i].name.length; j++) sum += (unsigned char)fields[i].name.data[j];
		for (size_t j = 0; j < fields[i].value.length; j++) sum += (unsigned char)fields[i].value.data[j];
	}
	return sum;
}

size_t envoy_dynamic_module_callback_http_get_headers_size(void *f, int kind) { (void)kind; return ((envoy *)f)->headers; }
bool envoy_dynamic_module_callback_http_get_headers(void *f, int kind, field *headers) {
	envoy *e = f;
	(void)kind;
	for (size_t i = 0; i < e->headers && !e->no_headers; i++) headers[i] = (field){LITERAL("name"), LITERAL("value")};
	return !e->no_headers;
}
bool envoy_dynamic_module_callback_http_set_header(void *f, int kind, bytes name, bytes value) {
	envoy *e = f;
	(void)kind;
	field changed = {name, value};
	if (value.data == NULL) changed.value.length = 0, e->removed++; else e->set++;
	(void)total(&changed, 1);
	return !e->cannot_set;
}
void envoy_dynamic_module_callback_http_send_response(void *f, uint32_t status, field *headers, size_t count, bytes body, bytes details) {
	envoy *e = f;
	field last = {body, details};
	(void)(total(headers, count) + total(&last, 1));
	e->sent++;
	e->status = status;
}
bool envoy_dynamic_module_callback_http_get_downstream_direct_remote_address(void *f, bytes *address, uint32_t *port) {
	(void)f;
	*address = LITERAL("192.0.2.1:80");
	*port = 0;
	return true;
}
void envoy_dynamic_module_callback_http_set_dynamic_metadata_string_batch(void *f, bytes name_space, const field *entries, size_t count) {
	(void)name_space;
	(void)total(entries, count);
	((envoy *)f)->metadata += count;
}
const void *envoy_dynamic_module_callback_get_most_specific_route_config(void *f) { (void)f; return NULL; }
typedef struct { envoy *of; } scheduler;
void *envoy_dynamic_module_callback_http_filter_scheduler_new(void *f) {
	envoy *e = f;
	if (e->no_scheduler) return NULL;
	scheduler *s = malloc(sizeof *s);
	s->of = e;
	e->schedulers++;
	return s;
}
void envoy_dynamic_module_callback_http_filter_scheduler_commit(void *s, uint64_t event) {
	envoy *e = ((scheduler *)s)->of;
	(void)event;
	pthread_mutex_lock(&e->mutex);
	e->scheduled++;
	pthread_mutex_unlock(&e->mutex);
}
void envoy_dynamic_module_callback_http_filter_scheduler_delete(void *s) { ((scheduler *)s)->of->schedulers--; free(s); }
void envoy_dynamic_module_callback_http_filter_continue_decoding(void *f) { ((envoy *)f)->resumed++; }
bool envoy_dynamic_module_callback_is_validation_mode(void) { return false; }
void envoy_dynamic_module_callback_log(int level, bytes message) { (void)level, (void)message; }

// ---- the decision

static enum { ALLOW, REFUSE, NOTHING, SUSPEND } decision;
static suspended *waiting; // of the last request that waits

uintptr_t extauthzOpen(bytes text) { return text.length; }
void extauthzClose(uintptr_t h) { assert(h != 0); }
uintptr_t extauthzOpenRoute(bytes text) { return text.length; }
void extauthzCloseRoute(uintptr_t h) { assert(h != 0); }
void extauthzWait(void) {}

static void answer(reply *r, bool allowed) { // in memory of its own, which is as small as it can be
	char *memory = malloc(4 * sizeof(field) + 2);
	field *fields = (field *)memory;
	char *at = memory + 4 * sizeof(field);
	memcpy(at, "nv", 2);
	for (int i = 0; i < 4; i++) fields[i] = (field){{at, 1}, {at + 1, 1}};
	*r = (reply){.allowed = allowed, .status = allowed ? 0 : 403, .body = {at, 2}, .details = {at, 1}, .set = fields, .set_count = 1,
		.remove = fields + 1, .remove_count = 1, .response = fields + 2, .response_count = 1, .metadata = fields + 3, .metadata_count = 1, .owned = memory};
}

void extauthzCheck(request *r) {
	(void)total(r->headers, r->header_count);
	memset(r->scratch, 1, r->scratch_size);
	switch (decision) {
	case ALLOW: answer(&r->reply, true); break;
	case REFUSE: answer(&r->reply, false); break;
	case NOTHING: break;
	case SUSPEND:
		waiting = extauthz_suspend(r);
		r->reply.suspended = waiting != NULL;
	}
}

static void *resume(void *allowed) {
	reply r;
	answer(&r, allowed != NULL);
	extauthz_resume(waiting, &r);
	return NULL;
}

// ---- streams

static envoy run(envoy e, int want) {
	const void *s = envoy_dynamic_module_on_http_filter_new((void *)1, &e);
	assert(envoy_dynamic_module_on_http_filter_request_headers(&e, s, true) == want);
	if (want == CONTINUE) envoy_dynamic_module_on_http_filter_response_headers(&e, s, true);
	envoy_dynamic_module_on_http_filter_destroy(s);
	return e;
}

// wait_for runs a stream that is resumed: before it ends, after that, or at the same time.
static void wait_for(int order, bool allowed) {
	envoy e = {.headers = 3};
	pthread_mutex_init(&e.mutex, NULL);
	decision = SUSPEND;
	const void *s = envoy_dynamic_module_on_http_filter_new((void *)1, &e);
	assert(envoy_dynamic_module_on_http_filter_request_headers(&e, s, false) == STOP_ALL_AND_WATERMARK);
	envoy_dynamic_module_on_http_filter_scheduled(&e, s, 0); // there is no answer
	assert(e.resumed == 0 && e.sent == 0);
	void *arg = allowed ? &e : NULL;
	pthread_t other;
	switch (order) {
	case 0:
		resume(arg);
		assert(e.scheduled == 1);
		envoy_dynamic_module_on_http_filter_scheduled(&e, s, 0);
		envoy_dynamic_module_on_http_filter_scheduled(&e, s, 0);
		assert(e.resumed == allowed && e.sent == !allowed);
		envoy_dynamic_module_on_http_filter_response_headers(&e, s, true);
		envoy_dynamic_module_on_http_filter_destroy(s);
		break;
	case 1:
		envoy_dynamic_module_on_http_filter_destroy(s);
		resume(arg);
		assert(e.scheduled == 0);
		break;
	case 2: // the answer is never applied
		resume(arg);
		envoy_dynamic_module_on_http_filter_destroy(s);
		break;
	default:
		pthread_create(&other, NULL, resume, arg);
		envoy_dynamic_module_on_http_filter_destroy(s);
		pthread_join(other, NULL);
	}
	assert(e.schedulers == 0);
	pthread_mutex_destroy(&e.mutex);
}

int main(void) {
	assert(strcmp(envoy_dynamic_module_on_program_init(), "v0.2.0") == 0);
	envoy_dynamic_module_on_http_filter_config_destroy(NULL);
	envoy_dynamic_module_on_http_filter_per_route_config_destroy(NULL);

	size_t counts[] = {0, 1, USUAL_HEADERS, USUAL_HEADERS + 1, 1000};
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
		decision = ALLOW;
		envoy e = run((envoy){.headers = counts[i]}, CONTINUE);
		assert(e.set == 2 && e.removed == 1 && e.metadata == 1 && e.sent == 0); // one is on the response
		decision = REFUSE;
		e = run((envoy){.headers = counts[i]}, STOP);
		assert(e.sent == 1 && e.status == 403 && e.set == 0);
		decision = NOTHING;
		e = run((envoy){.headers = counts[i]}, STOP);
		assert(e.sent == 1 && e.status == 503);
		decision = ALLOW;
		e = run((envoy){.headers = counts[i], .no_headers = true}, STOP);
		assert(e.sent == 1 && e.status == 503);
		e = run((envoy){.headers = counts[i], .cannot_set = true}, STOP); // the secret may still be there
		assert(e.sent == 1 && e.status == 503);
	}
	decision = SUSPEND;
	envoy e = run((envoy){.headers = 1, .no_scheduler = true}, STOP);
	assert(e.sent == 1 && e.status == 503 && waiting == NULL);
	for (int i = 0; i < 2000; i++) {
		wait_for(i % 4, i % 8 < 4);
	}
	puts("done");
	return 0;
}
