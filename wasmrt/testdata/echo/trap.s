#include "textflag.h"

// trap executes an instruction that always traps.
TEXT ·trap(SB), NOSPLIT, $0-0
	UNDEF
