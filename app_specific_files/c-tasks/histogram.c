/* How often each byte occurs: 256 numbers. */
#include "task.h"

int main(void) {
    unsigned long long counts[256] = {0};
    unsigned char block[65536];
    FILE *in = from("input");
    if (!in) die("no", "input");
    for (size_t got; (got = fread(block, 1, sizeof block, in)) > 0;)
        for (size_t i = 0; i < got; i++) counts[block[i]]++;
    fclose(in);
    FILE *out = to_children("histogram");
    for (int i = 0; i < 256; i++) fprintf(out, "%llu\n", counts[i]);
    return fclose(out) ? 1 : 0;
}
