//go:build cgo

// The hooks that Envoy calls. Only the decision itself is in Go, which is entered once for each request, by
// extauthzCheck, and once for each configuration.
//
// Envoy calls the hooks of one stream on one thread, its worker's. A stream whose answer has to wait is
// resumed through Envoy's scheduler, whose only use on another thread is in extauthz_resume.

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "_cgo_export.h"
#include "module.h"

// A stream is this filter's part of one HTTP stream. It lives from http_filter_new to http_filter_destroy.
typedef struct {
	uintptr_t config;
	suspended *suspended; // NULL unless its answer has to wait
	field *response;      // headers to set on the response
	size_t response_count;
	void *owned; // the memory of response; NULL if it has none
} stream;

struct suspended {
	pthread_mutex_t mutex; // guards what follows
	void *scheduler;       // NULL once the stream has ended
	bool answered;         // reply is set
	reply reply;
	int references;
};

static const char unavailable[] = "{\"meta\":{\"requestId\":\"\"},\"data\":{\"valid\":false,\"code\":\"UNAVAILABLE\"}}";

#define LITERAL(s) ((bytes){(s), sizeof(s) - 1})

// ---- suspended streams

suspended *extauthz_suspend(request *r) {
	suspended *s = calloc(1, sizeof *s);
	if (s == NULL) {
		return NULL;
	}
	if (pthread_mutex_init(&s->mutex, NULL) != 0) {
		free(s);
		return NULL;
	}
	s->scheduler = envoy_dynamic_module_callback_http_filter_scheduler_new(r->filter);
	if (s->scheduler == NULL) { // the stream could never be resumed
		pthread_mutex_destroy(&s->mutex);
		free(s);
		return NULL;
	}
	s->references = 2;
	r->suspended = s;
	return s;
}

// release unlocks s, drops one reference, and frees s if it was the last.
static void release(suspended *s) {
	int references = --s->references;
	pthread_mutex_unlock(&s->mutex);
	if (references > 0) {
		return;
	}
	pthread_mutex_destroy(&s->mutex);
	free(s->reply.owned);
	free(s);
}

void extauthz_resume(suspended *s, reply *r) {
	pthread_mutex_lock(&s->mutex);
	s->reply = *r;
	s->answered = true;
	if (s->scheduler != NULL) {
		// Under the mutex, so that the worker and its dispatcher still exist: the worker ends the stream
		// first, and waits for the mutex in end_suspension.
		envoy_dynamic_module_callback_http_filter_scheduler_commit(s->scheduler, 0);
	}
	release(s);
}

// take_reply moves the reply to r, and reports whether there is one.
static bool take_reply(suspended *s, reply *r) {
	pthread_mutex_lock(&s->mutex);
	bool answered = s->answered;
	if (answered) {
		*r = s->reply;
		s->reply = (reply){0};
		s->answered = false;
	}
	pthread_mutex_unlock(&s->mutex);
	return answered;
}

// end_suspension is called when the stream ends: nothing is scheduled for it afterwards.
static void end_suspension(suspended *s) {
	pthread_mutex_lock(&s->mutex);
	envoy_dynamic_module_callback_http_filter_scheduler_delete(s->scheduler);
	s->scheduler = NULL;
	release(s);
}

// ---- replies

// refuse answers the request. Envoy may end the stream in it, so that the stream must not be used afterwards.
static void refuse(void *filter, reply *r) {
	if (r->status == 0) { // the decision itself failed
		field headers[] = {
			{LITERAL("content-type"), LITERAL("application/json")},
			{LITERAL("cache-control"), LITERAL("no-store")},
			{LITERAL("grpc-status"), LITERAL("14")}, // a gRPC caller would otherwise be told OK
		};
		envoy_dynamic_module_callback_http_send_response(filter, 503, headers, sizeof headers / sizeof headers[0],
			LITERAL(unavailable), LITERAL("ext_authz_error"));
		return;
	}
	envoy_dynamic_module_callback_http_send_response(filter, r->status, r->response, r->response_count, r->body, r->details);
}

// change makes the reply's changes to the request, and reports whether all of them succeeded.
static bool change(void *filter, const reply *r) {
	for (size_t i = 0; i < r->remove_count; i++) {
		if (!envoy_dynamic_module_callback_http_set_header(filter, REQUEST_HEADERS, r->remove[i].name, (bytes){NULL, 0})) {
			return false;
		}
	}
	for (size_t i = 0; i < r->set_count; i++) {
		if (!envoy_dynamic_module_callback_http_set_header(filter, REQUEST_HEADERS, r->set[i].name, r->set[i].value)) {
			return false;
		}
	}
	return true;
}

// save_response_headers copies the headers of the response into memory of the stream's own.
static bool save_response_headers(stream *s, const reply *r) {
	if (r->response_count == 0) {
		return true;
	}
	size_t size = r->response_count * sizeof(field);
	for (size_t i = 0; i < r->response_count; i++) {
		size += r->response[i].name.length + r->response[i].value.length;
	}
	field *fields = malloc(size);
	if (fields == NULL) {
		return false;
	}
	char *at = (char *)(fields + r->response_count);
	for (size_t i = 0; i < r->response_count; i++) {
		bytes name = r->response[i].name, value = r->response[i].value;
		memcpy(at, name.data, name.length);
		fields[i].name = (bytes){at, name.length};
		at += name.length;
		memcpy(at, value.data, value.length);
		fields[i].value = (bytes){at, value.length};
		at += value.length;
	}
	free(s->owned);
	s->owned = s->response = fields;
	s->response_count = r->response_count;
	return true;
}

// apply applies the reply, and reports whether the request continues. If it does not, the stream may have
// ended, and must not be used afterwards.
static bool apply(void *filter, stream *s, reply *r) {
	if (r->metadata_count > 0) {
		envoy_dynamic_module_callback_http_set_dynamic_metadata_string_batch(filter,
			LITERAL("envoy.filters.http.ext_authz"), r->metadata, r->metadata_count);
	}
	if (r->allowed && change(filter, r) && save_response_headers(s, r)) {
		return true;
	}
	refuse(filter, r); // also after a change that failed: the secret may still be there. r->status is 0 then
	return false;
}

// ---- the module and its configurations

const char *envoy_dynamic_module_on_program_init(void) {
	if (envoy_dynamic_module_callback_log == NULL) {
		return NULL;
	}
	if (envoy_dynamic_module_callback_http_get_headers_size == NULL ||
		envoy_dynamic_module_callback_http_get_headers == NULL ||
		envoy_dynamic_module_callback_http_set_header == NULL ||
		envoy_dynamic_module_callback_http_send_response == NULL ||
		envoy_dynamic_module_callback_http_get_downstream_direct_remote_address == NULL ||
		envoy_dynamic_module_callback_http_set_dynamic_metadata_string_batch == NULL ||
		envoy_dynamic_module_callback_get_most_specific_route_config == NULL ||
		envoy_dynamic_module_callback_http_filter_scheduler_new == NULL ||
		envoy_dynamic_module_callback_http_filter_scheduler_commit == NULL ||
		envoy_dynamic_module_callback_http_filter_scheduler_delete == NULL ||
		envoy_dynamic_module_callback_http_filter_continue_decoding == NULL) {
		const char message[] = "extauthz: this Envoy is too old for the module: it does not report the direct "
							   "remote address of a connection. Use Envoy 1.40, or run extauthz as a server";
		extauthz_log(message, sizeof message - 1);
		return NULL;
	}
	return "v0.2.0";
}

void extauthz_log(const char *message, size_t length) {
	envoy_dynamic_module_callback_log(LOG_ERROR, (bytes){message, length});
}

bool extauthz_validating(void) {
	return envoy_dynamic_module_callback_is_validation_mode != NULL && envoy_dynamic_module_callback_is_validation_mode();
}

// Handles of Go's are numbers, of which 0 is none: Envoy keeps them as pointers.

const void *envoy_dynamic_module_on_http_filter_config_new(void *envoy_config, bytes name, bytes config) {
	(void)envoy_config;
	(void)name;
	return (const void *)extauthzOpen(config);
}

void envoy_dynamic_module_on_http_filter_config_destroy(const void *config) {
	if (config != NULL) {
		extauthzClose((uintptr_t)config);
	}
}

const void *envoy_dynamic_module_on_http_filter_per_route_config_new(bytes name, bytes config) {
	(void)name;
	return (const void *)extauthzOpenRoute(config);
}

void envoy_dynamic_module_on_http_filter_per_route_config_destroy(const void *route) {
	if (route != NULL) {
		extauthzCloseRoute((uintptr_t)route);
	}
}

// wait_for_closing lets what Envoy closed write what is left, before the process exits.
__attribute__((destructor)) static void wait_for_closing(void) {
	extauthzWait();
}

// ---- streams

const void *envoy_dynamic_module_on_http_filter_new(const void *config, void *filter) {
	(void)filter;
	stream *s = calloc(1, sizeof *s); // Envoy closes the stream if this is NULL
	if (s != NULL) {
		s->config = (uintptr_t)config;
	}
	return s;
}

void envoy_dynamic_module_on_http_filter_destroy(const void *module_filter) {
	stream *s = (stream *)module_filter;
	if (s->suspended != NULL) {
		end_suspension(s->suspended);
	}
	free(s->owned);
	free(s);
}

// Most requests have no more headers, and their replies no more bytes: those need no memory but the stack's.
enum { USUAL_HEADERS = 64, USUAL_REPLY = 4096 };

int envoy_dynamic_module_on_http_filter_request_headers(void *filter, const void *module_filter, bool end_of_stream) {
	(void)end_of_stream;
	stream *s = (stream *)module_filter;
	request r = {.config = s->config, .filter = filter};

	field usual[USUAL_HEADERS];
	field *headers = usual, *more = NULL;
	r.header_count = envoy_dynamic_module_callback_http_get_headers_size(filter, REQUEST_HEADERS);
	if (r.header_count > USUAL_HEADERS) {
		headers = more = calloc(r.header_count, sizeof(field));
	}
	if (headers == NULL || !envoy_dynamic_module_callback_http_get_headers(filter, REQUEST_HEADERS, headers)) {
		free(more);
		refuse(filter, &r.reply);
		return STOP;
	}
	r.headers = headers;
	uint32_t port = 0;
	if (!envoy_dynamic_module_callback_http_get_downstream_direct_remote_address(filter, &r.peer, &port)) {
		r.peer = (bytes){NULL, 0};
	}
	r.route = (uintptr_t)envoy_dynamic_module_callback_get_most_specific_route_config(filter);

	_Alignas(field) char scratch[USUAL_REPLY];
	r.scratch = scratch;
	r.scratch_size = sizeof scratch;
	extauthzCheck(&r);
	free(more);

	int status = STOP;
	if (r.reply.suspended) {
		s->suspended = r.suspended;
		status = STOP_ALL_AND_WATERMARK;
	} else if (apply(filter, s, &r.reply)) {
		status = CONTINUE;
	}
	free(r.reply.owned);
	return status;
}

// The answer of a suspended stream is there. Envoy does not call this once the stream has ended.
void envoy_dynamic_module_on_http_filter_scheduled(void *filter, const void *module_filter, uint64_t event) {
	(void)event;
	stream *s = (stream *)module_filter;
	reply r;
	if (s->suspended == NULL || !take_reply(s->suspended, &r)) {
		return;
	}
	if (apply(filter, s, &r)) {
		envoy_dynamic_module_callback_http_filter_continue_decoding(filter);
	}
	free(r.owned);
}

int envoy_dynamic_module_on_http_filter_response_headers(void *filter, const void *module_filter, bool end_of_stream) {
	(void)end_of_stream;
	const stream *s = module_filter;
	for (size_t i = 0; i < s->response_count; i++) {
		envoy_dynamic_module_callback_http_set_header(filter, RESPONSE_HEADERS, s->response[i].name, s->response[i].value);
	}
	return CONTINUE;
}

// ---- hooks that Envoy requires, and for which there is nothing to do. Bodies and trailers are not read: while a
// stream is suspended, Envoy holds them back.

int envoy_dynamic_module_on_http_filter_request_body(void *f, const void *s, bool end) { (void)f, (void)s, (void)end; return CONTINUE; }
int envoy_dynamic_module_on_http_filter_request_trailers(void *f, const void *s) { (void)f, (void)s; return CONTINUE; }
int envoy_dynamic_module_on_http_filter_response_body(void *f, const void *s, bool end) { (void)f, (void)s, (void)end; return CONTINUE; }
int envoy_dynamic_module_on_http_filter_response_trailers(void *f, const void *s) { (void)f, (void)s; return CONTINUE; }
void envoy_dynamic_module_on_http_filter_stream_complete(void *f, const void *s) { (void)f, (void)s; }
void envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(void *f, const void *s) { (void)f, (void)s; }
void envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(void *f, const void *s) { (void)f, (void)s; }

// The module makes no calls of its own through Envoy, so that these are never called.

void envoy_dynamic_module_on_http_filter_http_callout_done(void *f, const void *s, uint64_t id, int result,
	field *headers, size_t header_count, bytes *body, size_t body_count) {
	(void)f, (void)s, (void)id, (void)result, (void)headers, (void)header_count, (void)body, (void)body_count;
}
void envoy_dynamic_module_on_http_filter_http_stream_headers(void *f, const void *s, uint64_t id, field *headers, size_t count, bool end) {
	(void)f, (void)s, (void)id, (void)headers, (void)count, (void)end;
}
void envoy_dynamic_module_on_http_filter_http_stream_data(void *f, const void *s, uint64_t id, const bytes *data, size_t count, bool end) {
	(void)f, (void)s, (void)id, (void)data, (void)count, (void)end;
}
void envoy_dynamic_module_on_http_filter_http_stream_trailers(void *f, const void *s, uint64_t id, field *trailers, size_t count) {
	(void)f, (void)s, (void)id, (void)trailers, (void)count;
}
void envoy_dynamic_module_on_http_filter_http_stream_complete(void *f, const void *s, uint64_t id) { (void)f, (void)s, (void)id; }
void envoy_dynamic_module_on_http_filter_http_stream_reset(void *f, const void *s, uint64_t id, int reason) { (void)f, (void)s, (void)id, (void)reason; }
