// The part of Envoy's dynamic module ABI that this module uses, declared here by its documented facts. All
// names of functions are Envoy's.
//
// The callbacks are weak: they are Envoy's own symbols, found when Envoy loads the module. One that this
// Envoy does not have is NULL, which envoy_dynamic_module_on_program_init refuses.
#ifndef EXTAUTHZ_ABI_H
#define EXTAUTHZ_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Bytes are a buffer of Envoy or of the module. They are not terminated by a zero byte.
typedef struct {
	const char *data;
	size_t length;
} bytes;

// A field is a header, or an entry of dynamic metadata.
typedef struct {
	bytes name;
	bytes value;
} field;

enum { REQUEST_HEADERS = 0, RESPONSE_HEADERS = 2 };      // kinds of headers
enum { CONTINUE = 0, STOP = 1, STOP_ALL_AND_WATERMARK = 4 }; // what the headers hook returns
enum { LOG_ERROR = 4 };

#define CALLBACK extern __attribute__((weak))

CALLBACK size_t envoy_dynamic_module_callback_http_get_headers_size(void *filter, int kind);
CALLBACK bool envoy_dynamic_module_callback_http_get_headers(void *filter, int kind, field *headers);
CALLBACK bool envoy_dynamic_module_callback_http_set_header(void *filter, int kind, bytes name, bytes value);
CALLBACK void envoy_dynamic_module_callback_http_send_response(void *filter, uint32_t status, field *headers,
	size_t count, bytes body, bytes details);
CALLBACK bool envoy_dynamic_module_callback_http_get_downstream_direct_remote_address(void *filter,
	bytes *address, uint32_t *port);
CALLBACK void envoy_dynamic_module_callback_http_set_dynamic_metadata_string_batch(void *filter, bytes name_space,
	const field *entries, size_t count);
CALLBACK const void *envoy_dynamic_module_callback_get_most_specific_route_config(void *filter);
CALLBACK void *envoy_dynamic_module_callback_http_filter_scheduler_new(void *filter);
CALLBACK void envoy_dynamic_module_callback_http_filter_scheduler_commit(void *scheduler, uint64_t event);
CALLBACK void envoy_dynamic_module_callback_http_filter_scheduler_delete(void *scheduler);
CALLBACK void envoy_dynamic_module_callback_http_filter_continue_decoding(void *filter);
CALLBACK bool envoy_dynamic_module_callback_is_validation_mode(void);
CALLBACK void envoy_dynamic_module_callback_log(int level, bytes message);

#endif
