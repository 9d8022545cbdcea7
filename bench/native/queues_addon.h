#pragma once

#include <node_api.h>

void add_queue_functions(napi_env env, napi_value exports);
