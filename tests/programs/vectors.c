/* Vector registers that are never stored to memory while the loop runs: AVX-512 where the processor has it, else AVX2, else SSE2.
 * vectors ROUNDS */
#include "semper_test.h"
#include <immintrin.h>

#define LOOP(TYPE, SET, ADD, XOR, ROT)                                                                                 \
    TYPE a = SET(0x0123456789abcdefll), b = SET(0x1133557799bbddffll), c = SET(3), d = SET(7);                          \
    for (long i = 0; i < spins; i++) {                                                                                 \
        a = ADD(a, b);                                                                                                 \
        d = ROT(XOR(d, a));                                                                                            \
        c = ADD(c, d);                                                                                                 \
        b = ROT(XOR(b, c));                                                                                            \
        __asm__ volatile("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d));                                                     \
    }                                                                                                                  \
    TYPE all = ADD(ADD(a, b), ADD(c, d));                                                                              \
    memcpy(out, &all, sizeof all);

#define ROT512(v) _mm512_rol_epi64(v, 13)
#define ROT256(v) _mm256_or_si256(_mm256_slli_epi64(v, 13), _mm256_srli_epi64(v, 51))
#define ROT128(v) _mm_or_si128(_mm_slli_epi64(v, 13), _mm_srli_epi64(v, 51))

__attribute__((target("avx512f"))) static void wide(uint64_t *out, long spins) {
    __m512i a = _mm512_set1_epi64(0x0123456789abcdefll), b = _mm512_set1_epi64(0x1133557799bbddffll);
    __m512i c = _mm512_set1_epi64(3), d = _mm512_set1_epi64(7);
    __mmask8 mask = 0x5a;
    for (long i = 0; i < spins; i++) {
        a = _mm512_add_epi64(a, b);
        d = ROT512(_mm512_xor_si512(d, a));
        c = _mm512_mask_add_epi64(c, mask, c, d);
        b = ROT512(_mm512_xor_si512(b, c));
        __asm__ volatile("kxnorb %0, %0, %%k2\n\tkshiftrb $1, %0, %%k3" ::"Yk"(mask) : "k2", "k3");
        mask = (__mmask8)((mask << 1) | (mask >> 7));
    }
    __m512i all = _mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d));
    memcpy(out, &all, sizeof all);
}
__attribute__((target("avx2"))) static void middle(uint64_t *out, long spins) {
    LOOP(__m256i, _mm256_set1_epi64x, _mm256_add_epi64, _mm256_xor_si256, ROT256)
}
static void narrow(uint64_t *out, long spins) {
    LOOP(__m128i, _mm_set1_epi64x, _mm_add_epi64, _mm_xor_si128, ROT128)
}

int main(int argc, char **argv) {
    int rounds = atoi(argc > 1 ? argv[1] : "50");
    __builtin_cpu_init();
    int width = __builtin_cpu_supports("avx512dq") ? 512 : __builtin_cpu_supports("avx2") ? 256 : 128;
    printf("width %d\n", width);
    for (int round = 1; round <= rounds; round++) {
        uint64_t out[8] = {0}, hash = 1;
        (width == 512 ? wide : width == 256 ? middle : narrow)(out, 1000000L + round);
        for (int i = 0; i < 8; i++)
            mix(&hash, out[i]);
        printf("round %d: %016llx\n", round, (unsigned long long)hash);
    }
    return 0;
}
