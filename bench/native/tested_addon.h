#pragma once
#include <node_api.h>

void add_tested_functions(napi_env env, napi_value exports);
