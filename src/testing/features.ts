// Features of the processor by the bits of CPUID, each with an instruction that only processors with
// the feature have. Sources: SDM vol. 2, APM vol. 3, at the instruction's name.

import type { CpuidFeatureName } from '../x86/cpuid-features.js'
import type { GuestOptions } from './guest-set-up.js'

/** How a feature shows. */
export interface FeatureInstruction {
  readonly feature: CpuidFeatureName
  /** 64-bit code; `data` is a page of its own. */
  readonly code: string
  /** What the code needs besides the bit. */
  readonly guest?: Omit<GuestOptions, 'mode' | 'ring' | 'cpuid'>
  /** Ring 3 raises #GP whatever CPUID says. */
  readonly privileged?: boolean
}

const AVX = { xcr0: 7n }
const AVX512 = { xcr0: 0xe7n }

const plain: readonly (readonly [CpuidFeatureName, string])[] = [
  ['cmov', 'cmovz eax, ecx'],
  ['cx8', 'cmpxchg8b [data]'],
  ['cx16', 'cmpxchg16b [data]'],
  ['tsc', 'rdtsc'],
  ['fpu', 'fninit'],
  ['mmx', 'paddb mm0, mm1'],
  ['fxsr', 'fxsave [data]'],
  ['clflush', 'clflush [data]'],
  ['sse', 'addps xmm0, xmm1'],
  ['sse2', 'addpd xmm0, xmm1'],
  ['pni', 'addsubps xmm0, xmm1'],
  ['ssse3', 'pabsb xmm0, xmm1'],
  ['sse4_1', 'pmulld xmm0, xmm1'],
  ['sse4_2', 'pcmpgtq xmm0, xmm1'],
  ['sse4a', 'extrq xmm0, xmm1'],
  ['aes', 'aesenc xmm0, xmm1'],
  ['pclmulqdq', 'pclmulqdq xmm0, xmm1, 0'],
  ['sha_ni', 'sha1nexte xmm0, xmm1'],
  ['gfni', 'gf2p8mulb xmm0, xmm1'],
  ['popcnt', 'popcnt eax, ecx'],
  ['movbe', 'movbe eax, [data]'],
  ['rdrand', 'rdrand eax'],
  ['rdseed', 'rdseed eax'],
  ['adx', 'adcx eax, ecx'],
  ['lahf_lm', 'lahf'],
  ['rdtscp', 'rdtscp'],
  ['rdpid', 'rdpid rax'],
  ['clflushopt', 'clflushopt [data]'],
  ['clwb', 'clwb [data]'],
  ['clzero', 'mov rax, data; clzero'],
  ['rtm', 'xbegin other; xend; other: nop'],
  ['movdiri', 'movdiri [data], eax'],
  ['movdir64b', 'mov rax, data; movdir64b rax, [data]'],
  ['serialize', 'serialize'],
  ['waitpkg', 'xor ecx, ecx; tpause ecx'],
]

const withAvx: typeof plain = [
  ['avx', 'vaddps ymm0, ymm1, ymm2'],
  ['avx2', 'vpaddb ymm0, ymm1, ymm2'],
  ['fma', 'vfmadd132ps ymm0, ymm1, ymm2'],
  ['f16c', 'vcvtph2ps ymm0, xmm1'],
  ['bmi1', 'andn eax, ecx, edx'],
  ['bmi2', 'pdep eax, ecx, edx'],
  ['vaes', 'vaesenc ymm0, ymm1, ymm2'],
  ['vpclmulqdq', 'vpclmulqdq ymm0, ymm1, ymm2, 0'],
]

const withAvx512: typeof plain = [
  ['avx512f', 'vaddps zmm0, zmm1, zmm2'],
  ['avx512dq', 'vpmullq zmm0, zmm1, zmm2'],
  ['avx512cd', 'vpconflictd zmm0, zmm1'],
  ['avx512bw', 'vpaddb zmm0, zmm1, zmm2'],
  ['avx512vl', 'vpaddd ymm16, ymm17, ymm18'],
  ['avx512ifma', 'vpmadd52luq zmm0, zmm1, zmm2'],
  ['avx512vbmi', 'vpermb zmm0, zmm1, zmm2'],
  ['avx512_vbmi2', 'vpshldw zmm0, zmm1, zmm2, 1'],
  ['avx512_vnni', 'vpdpbusd zmm0, zmm1, zmm2'],
  ['avx512_bitalg', 'vpopcntb zmm0, zmm1'],
  ['avx512_vpopcntdq', 'vpopcntd zmm0, zmm1'],
]

const own: readonly FeatureInstruction[] = [
  { feature: 'msr', code: 'mov ecx, 0x174; rdmsr', privileged: true },
  { feature: 'xsave', code: 'xor ecx, ecx; xgetbv', guest: AVX },
  { feature: 'xsaveopt', code: 'mov eax, 3; xor edx, edx; xsaveopt [data]', guest: AVX },
  { feature: 'xsavec', code: 'mov eax, 3; xor edx, edx; xsavec [data]', guest: AVX },
  { feature: 'xgetbv1', code: 'mov ecx, 1; xgetbv', guest: AVX },
  {
    feature: 'xsaves',
    code: 'mov eax, 3; xor edx, edx; xsaves [data]',
    guest: AVX,
    privileged: true,
  },
  { feature: 'fsgsbase', code: 'rdfsbase rax', guest: { cr4: { fsgsbase: true } } },
  { feature: 'pku', code: 'xor ecx, ecx; rdpkru', guest: { cr4: { pke: true } } },
  { feature: 'smap', code: 'stac', privileged: true },
  { feature: 'invpcid', code: 'mov eax, 2; invpcid rax, [data]', privileged: true },
  {
    feature: 'monitor',
    code: 'mov rax, data; xor ecx, ecx; xor edx, edx; monitor',
    privileged: true,
  },
  { feature: 'wbnoinvd', code: 'wbnoinvd', privileged: true },
]

const rows = (list: typeof plain, guest?: FeatureInstruction['guest']): FeatureInstruction[] =>
  list.map(([feature, code]) => ({ feature, code, ...(guest && { guest }) }))

/**
 * Features with an instruction that shows them. Features without one of their own (a hint, a size, a
 * bit in a table) are not among them.
 */
export const FEATURE_INSTRUCTIONS: readonly FeatureInstruction[] = [
  ...rows(plain),
  ...rows(withAvx, AVX),
  ...rows(withAvx512, AVX512),
  ...own,
]
