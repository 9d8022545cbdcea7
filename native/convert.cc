#include "convert.h"

#include "bound.h"

namespace node_kvm {
namespace {

constexpr napi_type_tag kTag = {0x6e6f64652d6b766d, 0x9b1f6c0de7a24f31};

}  // namespace

void Arguments::fail(const char* expected) {
  if (ok_ && !info_.Env().IsExceptionPending()) {
    auto error = Napi::TypeError::New(info_.Env(),
                                      "argument " + std::to_string(next_) + " must be " + expected);
    error.Set("code", "ERR_INVALID_ARG_TYPE");
    error.ThrowAsJavaScriptException();
  }
  ok_ = false;
}

Object* object_of(napi_env env, napi_value value) {
  bool tagged = false;
  void* raw = nullptr;
  if (!Napi::Value(env, value).IsObject() ||
      napi_check_object_type_tag(env, value, &kTag, &tagged) != napi_ok || !tagged ||
      napi_unwrap(env, value, &raw) != napi_ok) {
    return nullptr;
  }
  return static_cast<Object*>(raw);
}

File* file_of(napi_env env, napi_value value) {
  Object* object = object_of(env, value);
  if (object == nullptr || !is_file(object->kind())) return nullptr;
  return static_cast<File*>(object);
}

bool bytes_of(Napi::Value value, uint8_t** data, size_t* size) {
  if (!value.IsTypedArray()) return false;
  napi_typedarray_type type;
  void* raw = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, &type, size, &raw, nullptr, nullptr) !=
          napi_ok ||
      type != napi_uint8_array) {
    return false;
  }
  *data = static_cast<uint8_t*>(raw);
  return true;
}

Object* Arguments::any_object() {
  Object* object = object_of(info_.Env(), info_[next_++]);
  if (object == nullptr) fail("a native handle");
  return object;
}

File* Arguments::file() {
  File* file = file_of(info_.Env(), info_[next_++]);
  if (file == nullptr) fail("the handle of a file");
  return file;
}

std::pair<uint8_t*, size_t> Arguments::bytes() {
  uint8_t* data = nullptr;
  size_t size = 0;
  if (!bytes_of(info_[next_++], &data, &size)) fail("a Uint8Array");
  return {data, size};
}

Object* Arguments::unwrap(Kind kind, bool nullable) {
  if (nullable && info_[next_].IsNull()) {
    next_++;
    return nullptr;
  }
  Object* object = any_object();
  if (object != nullptr && object->kind() != kind) {
    fail("a native handle of another kind");
    return nullptr;
  }
  return object;
}

uint64_t Arguments::number(uint64_t max) {
  Napi::Value value = info_[next_++];
  if (!value.IsNumber()) {
    fail("a number");
    return 0;
  }
  double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= static_cast<double>(max)) ||
      number != static_cast<double>(static_cast<uint64_t>(number))) {
    fail("an integer in range");
    return 0;
  }
  return static_cast<uint64_t>(number);
}

std::string Arguments::string() {
  Napi::Value value = info_[next_++];
  if (!value.IsString()) {
    fail("a string");
    return {};
  }
  return value.As<Napi::String>().Utf8Value();
}

Napi::Function Arguments::function() {
  Napi::Value value = info_[next_++];
  if (!value.IsFunction()) {
    fail("a function");
    return {};
  }
  return value.As<Napi::Function>();
}

Napi::Value wrap(Napi::Env env, Ref<Object> object) {
  Napi::Object holder = Napi::Object::New(env);
  Object* raw = object.get();
  napi_status status = napi_type_tag_object(env, holder, &kTag);
  if (status == napi_ok) {
    raw->retain();
    status = napi_wrap(
        env, holder, raw,
        [](napi_env, void* data, void*) { static_cast<Object*>(data)->release(); }, nullptr,
        nullptr);
    if (status != napi_ok) raw->release();
  }
  if (status != napi_ok) {
    Napi::Error::New(env, "cannot wrap a native handle").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  add_bound_functions(env, holder, raw);
  return holder;
}

namespace {
struct BufferOwner {
  Ref<Mapping> mapping;
  Ref<Object> object;
};
}  // namespace

Napi::Value external_buffer(Napi::Env env, const Ref<Mapping>& mapping, uint64_t offset,
                            uint64_t length, Ref<Object> owner) {
  if (offset > mapping->size() || length > mapping->size() - offset) {
    Napi::RangeError::New(env, "view outside of its mapping").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto* keep = new BufferOwner{mapping, std::move(owner)};
  // SAFETY: the finalizer runs when no view of the buffer is left; until then `keep` holds the
  // mapping. Addresses are never reused under a live view.
  napi_value buffer = nullptr;
  napi_status status = napi_create_external_arraybuffer(
      env, mapping->data() + offset, length,
      [](napi_env, void*, void* hint) { delete static_cast<BufferOwner*>(hint); }, keep, &buffer);
  // Node has taken over, and already called the finalizer, when it is Node that throws.
  if (status == napi_pending_exception) return env.Undefined();
  if (status != napi_ok) {
    delete keep;
    Napi::Error::New(env, "this Node.js cannot expose memory as an ArrayBuffer of " +
                              std::to_string(length) + " bytes")
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return Napi::Value(env, buffer);
}

}  // namespace node_kvm
