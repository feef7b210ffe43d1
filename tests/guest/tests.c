// SPDX-License-Identifier: BSD-2-Clause
#include "tests.h"

#define TEST_ENTRY(name) {#name, test_##name},

const struct guest_test guest_tests[] = {GUEST_TESTS(TEST_ENTRY){NULL, NULL}};
