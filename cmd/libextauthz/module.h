// The types and functions that the hooks, in C, and the decision, in Go, share.
#ifndef EXTAUTHZ_MODULE_H
#define EXTAUTHZ_MODULE_H

#include "abi.h"

// A reply is what a filter is to do with a request. Zeroed, it refuses. Its fields and their bytes are in
// one piece of memory, which is the caller's, or the reply's own if owned is not NULL.
typedef struct {
	bool allowed;
	bool suspended; // there is no reply yet; nothing else is set

	uint32_t status; // of the refusal
	bytes body;      // of the refusal
	bytes details;   // of the refusal

	field *set; // headers of the request; overwrite
	size_t set_count;
	field *remove; // headers of the request; their values are empty
	size_t remove_count;
	field *response; // headers of the response; overwrite
	size_t response_count;
	field *metadata;
	size_t metadata_count;

	void *owned; // to be freed
} reply;

// A suspended stream waits for its reply. It has two references: the filter's, until the stream ends, and that
// of the goroutine that looks up the key, until extauthz_resume. The last one to be dropped frees it.
typedef struct suspended suspended;

// A request is what the decision is made of, and where its reply goes. Its memory is valid during the call.
typedef struct {
	uintptr_t config; // a handle of Go's
	uintptr_t route;  // a handle of Go's; 0 for none
	const field *headers;
	size_t header_count;
	bytes peer; // the other end of the connection; empty if it has no address

	void *filter;         // Envoy's
	suspended *suspended; // set by extauthz_suspend

	char *scratch; // memory for the reply
	size_t scratch_size;
	reply reply;
} request;

// extauthz_suspend prepares the request's stream to wait, and sets suspended; that stays NULL if there is
// no memory. It must be called during the call that has the request.
suspended *extauthz_suspend(request *r);

// extauthz_resume gives the stream its reply, takes ownership of the reply's memory, and drops the goroutine's
// reference to s. It may be called on any thread, once.
void extauthz_resume(suspended *s, reply *r);

// extauthz_log writes an error to Envoy's log.
void extauthz_log(const char *message, size_t length);

// extauthz_validating reports whether Envoy only validates its configuration.
bool extauthz_validating(void);

#endif
