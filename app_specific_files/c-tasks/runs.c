/* The longest run of one byte: which, and how long. An empty file has none: no output, so the join goes on without. */
#include "task.h"

int main(void) {
    FILE *in = from("input");
    if (!in) die("no", "input");
    int last = -1, best_byte = -1;
    unsigned long long length = 0, best = 0;
    for (int byte; (byte = getc(in)) != EOF; last = byte) {
        length = byte == last ? length + 1 : 1;
        if (length > best) {
            best = length;
            best_byte = byte;
        }
    }
    fclose(in);
    if (best == 0) return 0;
    FILE *out = to_children("runs");
    fprintf(out, "%d %llu\n", best_byte, best);
    return fclose(out) ? 1 : 0;
}
