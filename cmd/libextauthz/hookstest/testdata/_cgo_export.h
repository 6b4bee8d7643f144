// What cgo writes for module.go, for hooks.c in a program without Go.
#include "../../module.h"

uintptr_t extauthzOpen(bytes text);
void extauthzClose(uintptr_t handle);
uintptr_t extauthzOpenRoute(bytes text);
void extauthzCloseRoute(uintptr_t handle);
void extauthzWait(void);
void extauthzCheck(request *r);
