// Runs a program in the C simulation and writes down what the compute unit gets and gives, block by block, in one
// descriptor.
//
// The file: records of int32s, the first of which says what follows. 1: a set of weights, int8 [lanes, weight_depth,
// oc_tile]. 2: a core's block, for a tile of output channels: `HEADER` int32s, counts int16 [pixels, lanes, 2], entries
// int16 [pixels * words, lanes, 2] (a word's number and 5 bits of digit), sums int32 [output pixels, oc_tile].
#define DITTO_OBSERVED
#include "config.hpp"
#include "controller.hpp"

#include <cstdio>
#include <memory>
#include <vector>

namespace {

struct Record {
    FILE* file = nullptr;
    uint32_t wanted = 0, running = 0;
    int32_t phase = 0;
    std::vector<int8_t> weights;

    template <class T>
    void put(const std::vector<T>& values) {
        std::fwrite(values.data(), sizeof(T), values.size(), file);
    }
} record;

// A pixel takes the digits of its fullest lane, at least one cycle.
template <class C, class Counts>
int32_t cycles_of(const ditto::OutputBlock& b, const Counts& counts) {
    int32_t cycles = 0;
    for (int y = 0; y < b.output_rows; ++y) {
        for (int x = -b.lead_columns; x < b.output_width; ++x) {
            int fullest = 1;
            for (int lane = 0; lane < C::lanes; ++lane) {
                int digits = 0;
                for (int ky = 0; ky < b.kernel_height; ++ky) {
                    for (int kx = 0; kx < b.kernel_width; ++kx) {
                        const int row = y * b.stride_height + ky + b.first_row;
                        const int column = x * b.stride_width + kx - b.pad_left;
                        if (row < 0 || row >= b.rows || column < 0 || column >= b.width) continue;
                        for (int half = 0; half < 2; ++half) digits += counts[lane][half][row * b.width + column];
                    }
                }
                if (digits > fullest) fullest = digits;
            }
            cycles += fullest;
        }
    }
    return cycles;
}

struct RecordingTypes : ditto::NativeTypes {
    template <class C>
    static void observe(const ditto::DigitLists<C>& lists, const ditto::WeightBanks<C>& weights,
                        const ditto::OutputBlock* blocks, int words, const ditto::WeightTiles& tiles,
                        const ditto::BlockSums<C>& sums) {
        if (record.running != record.wanted) return;
        std::vector<int8_t> codes;
        for (int lane = 0; lane < C::lanes; ++lane) {
            for (int address = 0; address < C::weight_depth; ++address) {
                const int8_t* word = weights.word(0, lane, address);
                codes.insert(codes.end(), word, word + C::oc_tile);
            }
        }
        if (codes != record.weights) {
            record.put(std::vector<int32_t>{1});
            record.put(codes);
            record.weights = codes;
        }
        for (int core = 0; core < C::cores; ++core) {
            const ditto::OutputBlock& b = blocks[core];
            const int outputs = b.output_rows * b.output_width, pixels = b.rows * b.width;
            if (outputs == 0) continue;
            const int windows = b.output_rows * (b.lead_columns + b.output_width);
            std::vector<int16_t> counts, entries;
            for (int pixel = 0; pixel < pixels; ++pixel) {
                for (int lane = 0; lane < C::lanes; ++lane) {
                    for (int half = 0; half < 2; ++half)
                        counts.push_back(int16_t(lists.counts[core][lane][half][pixel]));
                }
            }
            for (int slot = 0; slot < pixels * words; ++slot) {
                for (int lane = 0; lane < C::lanes; ++lane) {
                    for (int half = 0; half < 2; ++half) {
                        const ditto::DigitEntry<C>& entry = lists.entries[core][lane][half][slot];
                        entries.push_back(int16_t(int(entry.word) << 5 | (int(entry.digit) & 31)));
                    }
                }
            }
            for (int tile = 0; tile < tiles.tiles; ++tile) {  // all take as long: they have the same digits
                record.put(std::vector<int32_t>{2,
                                                record.phase,
                                                tile,
                                                core,
                                                windows * b.kernel_height * b.kernel_width,
                                                cycles_of<C>(b, lists.counts[core]),
                                                b.output_rows,
                                                b.output_width,
                                                tile * outputs,
                                                b.first_row,
                                                -b.pad_left - b.lead_columns * b.stride_width,
                                                b.rows,
                                                b.width,
                                                b.kernel_height,
                                                b.kernel_width,
                                                b.stride_height,
                                                b.stride_width,
                                                b.lead_columns,
                                                b.chained_row,
                                                b.chained_block,
                                                words,
                                                tiles.first + tile * tiles.step});
                record.put(counts);
                record.put(entries);
                std::vector<int32_t> stored;
                for (int pixel = 0; pixel < outputs; ++pixel) {
                    const auto& values = sums.pixels[core][tile * outputs + pixel];
                    stored.insert(stored.end(), values, values + C::oc_tile);
                }
                record.put(stored);
            }
        }
        ++record.phase;
    }
};

typedef ditto::Config<RecordingTypes> C;
typedef ditto::Memory<C>::word word;

}  // namespace

// Runs `count` descriptors on copies of `regions` memories with the contents at `pointers`, of `sizes` bytes;
// `of_pointer` says which of them each pointer of the top function is. Records descriptor number `wanted`, from 1, in
// the file `path`. Returns the error's code.
extern "C" uint32_t ditto_record(uint8_t* const* pointers, const uint64_t* sizes, uint32_t regions,
                                 const uint32_t* of_pointer, uint32_t count, uint32_t wanted, const char* path) {
    std::vector<std::vector<word>> memory;
    for (uint32_t i = 0; i < regions; ++i) {
        memory.emplace_back((sizes[i] + C::bus_bytes - 1) / C::bus_bytes + 1);
        for (uint64_t at = 0; at < sizes[i]; ++at)
            C::set_byte(memory[i][at / C::bus_bytes], int(at % C::bus_bytes), pointers[i][at]);
    }
    record = Record();
    record.wanted = wanted;
    record.file = std::fopen(path, "wb");
    if (!record.file) return ~0u;
    std::unique_ptr<ditto::LinearBuffers<C>> buffers(new ditto::LinearBuffers<C>());
    const auto at = [&](int pointer) { return memory[of_pointer[pointer]].data(); };
    const uint32_t error = ditto::Controller<C>::run(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8),
                                                     at(9), at(10), at(11), at(12), count, &record.running, *buffers);
    std::fclose(record.file);
    return error;
}
