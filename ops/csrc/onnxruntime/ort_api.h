// The part of ONNX Runtime's C interface that is used here.
//
// Its wheels bring no header. The interface is stable: a table of function
// pointers that only grows, so that its beginning, as of version 1.17, serves
// all later versions. What stands between the used ones is left unnamed; the
// numbers are checked below. `OrtApi` is used for nothing but these members.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct OrtAllocator;
struct OrtCustomOpDomain;
struct OrtEnv;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtMemoryInfo;
struct OrtRunOptions;
struct OrtSession;
struct OrtSessionOptions;
struct OrtStatus;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;

// Types of the elements of tensors.
enum OrtElementType : int {
  kOrtAnyType = 0,
  kOrtFloat = 1,
  kOrtUint8 = 2,
  kOrtInt32 = 6,
  kOrtInt64 = 7,
  kOrtBool = 9
};

enum OrtErrorCode : int { kOrtFail = 1, kOrtInvalidArgument = 2 };

enum OrtCharacteristic : int { kOrtRequired = 0, kOrtOptional = 1 };

struct OrtApi {
  OrtStatus* (*CreateStatus)(OrtErrorCode code, const char* message);
  const void* after_0[1];
  const char* (*GetErrorMessage)(const OrtStatus* status);
  OrtStatus* (*CreateEnv)(int log_level, const char* name, OrtEnv** out);
  const void* after_3[3];
  OrtStatus* (*CreateSession)(const OrtEnv* env, const char* path,
                              const OrtSessionOptions* options,
                              OrtSession** out);
  const void* after_7[1];
  OrtStatus* (*Run)(OrtSession* session, const OrtRunOptions* options,
                    const char* const* input_names,
                    const OrtValue* const* inputs, size_t num_inputs,
                    const char* const* output_names, size_t num_outputs,
                    OrtValue** outputs);
  OrtStatus* (*CreateSessionOptions)(OrtSessionOptions** out);
  const void* after_10[13];
  OrtStatus* (*SetIntraOpNumThreads)(OrtSessionOptions* options, int threads);
  const void* after_24[1];
  OrtStatus* (*CreateCustomOpDomain)(const char* name,
                                     OrtCustomOpDomain** out);
  OrtStatus* (*CustomOpDomain_Add)(OrtCustomOpDomain* domain,
                                   const struct OrtCustomOp* op);
  OrtStatus* (*AddCustomOpDomain)(OrtSessionOptions* options,
                                  OrtCustomOpDomain* domain);
  OrtStatus* (*RegisterCustomOpsLibrary)(OrtSessionOptions* options,
                                         const char* path, void** handle);
  const void* after_29[1];
  OrtStatus* (*SessionGetOutputCount)(const OrtSession* session, size_t* out);
  const void* after_31[4];
  OrtStatus* (*SessionGetInputName)(const OrtSession* session, size_t index,
                                    OrtAllocator* allocator,
                                    char** out);
  OrtStatus* (*SessionGetOutputName)(const OrtSession* session, size_t index,
                                     OrtAllocator* allocator,
                                     char** out);
  const void* after_37[11];
  OrtStatus* (*CreateTensorWithDataAsOrtValue)(
      const OrtMemoryInfo* info, void* data, size_t num_bytes,
      const int64_t* shape, size_t rank, OrtElementType type, OrtValue** out);
  const void* after_49[1];
  OrtStatus* (*GetTensorMutableData)(OrtValue* value, void** out);
  const void* after_51[8];
  OrtStatus* (*GetTensorElementType)(const OrtTensorTypeAndShapeInfo* info,
                                     OrtElementType* out);
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo* info,
                                   size_t* out);
  OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo* info,
                              int64_t* out, size_t rank);
  const void* after_62[2];
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue* value,
                                      OrtTensorTypeAndShapeInfo** out);
  const void* after_65[3];
  OrtStatus* (*CreateCpuMemoryInfo)(int allocator_type, int memory_type,
                                    OrtMemoryInfo** out);
  const void* after_69[8];
  OrtStatus* (*GetAllocatorWithDefaultOptions)(OrtAllocator** out);
  const void* after_78[6];
  OrtStatus* (*KernelInfoGetAttribute_float)(const OrtKernelInfo* info,
                                             const char* name, float* out);
  OrtStatus* (*KernelInfoGetAttribute_int64)(const OrtKernelInfo* info,
                                             const char* name, int64_t* out);
  const void* after_86[1];
  OrtStatus* (*KernelContext_GetInputCount)(const OrtKernelContext* context,
                                            size_t* out);
  const void* after_88[1];
  OrtStatus* (*KernelContext_GetInput)(const OrtKernelContext* context,
                                       size_t index, const OrtValue** out);
  OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext* context,
                                        size_t index, const int64_t* shape,
                                        size_t rank, OrtValue** out);
  const void* after_91[1];
  void (*ReleaseStatus)(OrtStatus* status);
  const void* after_93[2];
  void (*ReleaseValue)(OrtValue* value);
  const void* after_96[2];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo* info);
  const void* after_99[63];
  OrtStatus* (*KernelInfoGetAttributeArray_int64)(const OrtKernelInfo* info,
                                                  const char* name,
                                                  int64_t* out, size_t* size);
  const void* after_163[66];
  OrtStatus* (*KernelInfo_GetInputCount)(const OrtKernelInfo* info,
                                         size_t* out);
  const void* after_230[1];
  OrtStatus* (*KernelInfo_GetInputName)(const OrtKernelInfo* info,
                                        size_t index, char* out, size_t* size);
  const void* after_232[16];
  OrtStatus* (*KernelInfoGetConstantInput_tensor)(const OrtKernelInfo* info,
                                                  size_t index,
                                                  int* is_constant,
                                                  const OrtValue** out);
  const void* after_249[24];
  OrtStatus* (*KernelContext_ParallelFor)(const OrtKernelContext* context,
                                          void (*body)(void* data, size_t i),
                                          size_t total, size_t num_batches,
                                          void* data);
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

// An operator. ONNX Runtime reads no more members than `version` has.
struct OrtCustomOp {
  uint32_t version;
  const void* create_kernel_1;
  const char* (*GetName)(const OrtCustomOp* op);
  const char* (*GetExecutionProviderType)(const OrtCustomOp* op);
  OrtElementType (*GetInputType)(const OrtCustomOp* op, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp* op);
  OrtElementType (*GetOutputType)(const OrtCustomOp* op, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp* op);
  const void* kernel_compute_1;
  void (*KernelDestroy)(void* kernel);
  OrtCharacteristic (*GetInputCharacteristic)(const OrtCustomOp* op,
                                              size_t index);
  OrtCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp* op,
                                               size_t index);
  int (*GetInputMemoryType)(const OrtCustomOp* op, size_t index);
  const void* variadic[4];
  OrtStatus* (*CreateKernel)(const OrtCustomOp* op, const OrtApi* api,
                             const OrtKernelInfo* info, void** kernel);
  OrtStatus* (*KernelCompute)(void* kernel, OrtKernelContext* context);
  const void* infer_output_shape;
};

}  // extern "C"

namespace mmcompress {

// Of the interface; of the members of OrtCustomOp.
constexpr uint32_t kOrtApiVersion = 17;
constexpr uint32_t kOrtCustomOpVersion = 16;

#define MMCOMPRESS_ORT_PLACE(member, number)                         \
  static_assert(offsetof(OrtApi, member) == number * sizeof(void*), \
                #member " is not where ONNX Runtime has it")
MMCOMPRESS_ORT_PLACE(CreateSession, 7);
MMCOMPRESS_ORT_PLACE(SetIntraOpNumThreads, 24);
MMCOMPRESS_ORT_PLACE(RegisterCustomOpsLibrary, 29);
MMCOMPRESS_ORT_PLACE(SessionGetOutputName, 37);
MMCOMPRESS_ORT_PLACE(CreateTensorWithDataAsOrtValue, 49);
MMCOMPRESS_ORT_PLACE(GetTensorMutableData, 51);
MMCOMPRESS_ORT_PLACE(GetTensorTypeAndShape, 65);
MMCOMPRESS_ORT_PLACE(CreateCpuMemoryInfo, 69);
MMCOMPRESS_ORT_PLACE(GetAllocatorWithDefaultOptions, 78);
MMCOMPRESS_ORT_PLACE(KernelInfoGetAttribute_int64, 86);
MMCOMPRESS_ORT_PLACE(KernelContext_GetOutput, 91);
MMCOMPRESS_ORT_PLACE(ReleaseStatus, 93);
MMCOMPRESS_ORT_PLACE(ReleaseTensorTypeAndShapeInfo, 99);
MMCOMPRESS_ORT_PLACE(KernelInfoGetAttributeArray_int64, 163);
MMCOMPRESS_ORT_PLACE(KernelInfo_GetInputName, 232);
MMCOMPRESS_ORT_PLACE(KernelInfoGetConstantInput_tensor, 249);
MMCOMPRESS_ORT_PLACE(KernelContext_ParallelFor, 274);
#undef MMCOMPRESS_ORT_PLACE

}  // namespace mmcompress
