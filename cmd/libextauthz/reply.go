package main

// #include <stdlib.h>
// #include "module.h"
import "C"

import (
	"unsafe"

	"extauthz/check"
	"extauthz/envoymodule"
)

const fieldSize = unsafe.Sizeof(C.field{})

// write writes the reply to C's, in this memory, whose alignment must be that of a field. If it is too
// small, the reply gets memory of its own; if there is none, to is left as it is, and refuses.
func write(r *envoymodule.Reply, to *C.reply, memory unsafe.Pointer, size uintptr) {
	need := needed(r)
	if need > size {
		if memory = C.malloc(C.size_t(need)); memory == nil {
			return
		}
		to.owned = memory
	}
	fields := uintptr(len(r.Set) + len(r.Remove) + len(r.Response) + len(r.Metadata))
	w := writer{
		fields: unsafe.Slice((*C.field)(memory), fields),
		bytes:  unsafe.Slice((*byte)(unsafe.Add(memory, fields*fieldSize)), need-fields*fieldSize),
	}
	to.set, to.set_count = w.list(r.Set)
	to.remove, to.remove_count = w.names(r.Remove)
	to.response, to.response_count = w.list(r.Response)
	to.metadata, to.metadata_count = w.list(r.Metadata)
	to.body, to.details = put(&w, r.Body), put(&w, r.Details)
	to.status = C.uint32_t(r.Status)
	to.allowed = C.bool(r.Allowed) // last: what is not written whole refuses
}

// needed returns how many bytes the reply takes in C, and one more, to which empty values point.
func needed(r *envoymodule.Reply) uintptr {
	n := len(r.Body) + len(r.Details) + 1
	for _, list := range [...][]check.Field{r.Set, r.Response, r.Metadata} {
		for _, f := range list {
			n += int(fieldSize) + len(f.Name) + len(f.Value)
		}
	}
	for _, name := range r.Remove {
		n += int(fieldSize) + len(name)
	}
	return uintptr(n)
}

// A writer writes fields, and the bytes that they refer to, into memory of C's.
type writer struct {
	fields []C.field
	bytes  []byte
}

// put writes the bytes of s. Their pointer is never NULL, which would remove a header.
func put[T string | []byte](w *writer, s T) C.bytes {
	copy(w.bytes[:len(s)], s)
	b := C.bytes{data: (*C.char)(unsafe.Pointer(&w.bytes[0])), length: C.size_t(len(s))}
	w.bytes = w.bytes[len(s):]
	return b
}

func (w *writer) list(list []check.Field) (first *C.field, count C.size_t) {
	for i, f := range list {
		w.fields[i] = C.field{name: put(w, f.Name), value: put(w, f.Value)}
	}
	return w.take(len(list))
}

func (w *writer) names(list []string) (first *C.field, count C.size_t) {
	for i, name := range list {
		w.fields[i] = C.field{name: put(w, name)}
	}
	return w.take(len(list))
}

// take returns the first n fields, which were written.
func (w *writer) take(n int) (first *C.field, count C.size_t) {
	if n == 0 {
		return nil, 0
	}
	first = &w.fields[0]
	w.fields = w.fields[n:]
	return first, C.size_t(n)
}
