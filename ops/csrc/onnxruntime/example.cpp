// Runs a written network, outside of Python.
//
//     g++ -std=c++17 example.cpp -o example libonnxruntime.so.1.32.0
//     ./example net.onnx libmmcompress_ort.so image.f32 1 3 224 224 > out.f32
//
// `image.f32` holds the preprocessed image, float32 in the order of the shape
// behind it. What the network gives is written to the standard output, one
// output behind the other, and described on the standard error.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "ort_api.h"

// The one symbol of ONNX Runtime's library that is linked.
extern "C" const OrtApiBase* OrtGetApiBase();

namespace {

const OrtApi* api = nullptr;

void check(OrtStatus* status) {
  if (status == nullptr) return;
  std::cerr << api->GetErrorMessage(status) << "\n";
  std::exit(1);
}

std::vector<char> read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::cerr << "there is no " << path << "\n";
    std::exit(1);
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

const char* type_name(OrtElementType type) {
  switch (type) {
    case kOrtFloat: return "float32";
    case kOrtUint8: return "uint8";
    case kOrtInt32: return "int32";
    case kOrtBool: return "bool";
    case kOrtInt64: return "int64";
    default: return "another type";
  }
}

size_t bytes_of(OrtElementType type) {
  if (type == kOrtInt64) return 8;
  return type == kOrtFloat || type == kOrtInt32 ? 4 : 1;
}

// Describes an output and writes it.
void print(const char* name, OrtValue* value) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api->GetTensorTypeAndShape(value, &info));
  OrtElementType type;
  size_t rank = 0;
  check(api->GetTensorElementType(info, &type));
  check(api->GetDimensionsCount(info, &rank));
  std::vector<int64_t> shape(rank);
  check(api->GetDimensions(info, shape.data(), rank));
  api->ReleaseTensorTypeAndShapeInfo(info);
  size_t size = 1;
  std::cerr << name << " " << type_name(type);
  for (int64_t n : shape) {
    std::cerr << " " << n;
    size *= size_t(n);
  }
  std::cerr << "\n";
  void* data = nullptr;
  check(api->GetTensorMutableData(value, &data));
  std::fwrite(data, bytes_of(type), size, stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::cerr << "usage: " << argv[0]
              << " NET.onnx LIBRARY.so IMAGE.f32 SHAPE...\n";
    return 1;
  }
  api = OrtGetApiBase()->GetApi(mmcompress::kOrtApiVersion);
  if (api == nullptr) {
    std::cerr << "ONNX Runtime " << OrtGetApiBase()->GetVersionString()
              << " is older than 1.17\n";
    return 1;
  }
  std::vector<int64_t> shape;
  size_t wanted = sizeof(float);
  for (int i = 4; i < argc; ++i) {
    shape.push_back(std::atoll(argv[i]));
    wanted *= size_t(shape.back());
  }
  std::vector<char> image = read(argv[3]);
  if (image.size() != wanted) {
    std::cerr << argv[3] << " has " << image.size() << " bytes, the shape "
              << wanted << "\n";
    return 1;
  }

  OrtEnv* env = nullptr;
  OrtSessionOptions* options = nullptr;
  OrtSession* session = nullptr;
  const int warnings = 3;
  void* library = nullptr;
  check(api->CreateEnv(warnings, "example", &env));
  check(api->CreateSessionOptions(&options));
  check(api->SetIntraOpNumThreads(options, 1));
  check(api->RegisterCustomOpsLibrary(options, argv[2], &library));
  check(api->CreateSession(env, argv[1], options, &session));

  OrtAllocator* allocator = nullptr;
  check(api->GetAllocatorWithDefaultOptions(&allocator));
  char* input_name = nullptr;
  check(api->SessionGetInputName(session, 0, allocator, &input_name));
  size_t count = 0;
  check(api->SessionGetOutputCount(session, &count));
  std::vector<const char*> names;
  for (size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    check(api->SessionGetOutputName(session, i, allocator, &name));
    names.push_back(name);
  }

  OrtMemoryInfo* memory = nullptr;
  const int arena = 1, default_memory = 0;
  check(api->CreateCpuMemoryInfo(arena, default_memory, &memory));
  OrtValue* input = nullptr;
  check(api->CreateTensorWithDataAsOrtValue(memory, image.data(), image.size(),
                                            shape.data(), shape.size(),
                                            kOrtFloat, &input));
  std::vector<OrtValue*> outputs(count, nullptr);
  check(api->Run(session, nullptr, &input_name, &input, 1, names.data(), count,
                 outputs.data()));
  for (size_t i = 0; i < count; ++i) print(names[i], outputs[i]);
  std::fflush(stdout);
  // the process ends, and with it all that it holds
  std::_Exit(0);
}
