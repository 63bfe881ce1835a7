// Found before the system's when a wheel for manylinux_2_28 is built.
//
// glibc has the variable of this name since 2.32, and std::shared_ptr would
// ask for it. As a constant it needs no symbol: threads may be there.
#pragma once

static const char __libc_single_threaded = 0;
