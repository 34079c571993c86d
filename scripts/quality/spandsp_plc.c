/* The loss concealment of spandsp, as a yardstick: raw 16-bit samples at 8 kHz in and out, '1' for each 20 ms lost. */
#include <stdint.h>
#include <stdio.h>

#include <spandsp.h>

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s IN.raw LOSSES.txt OUT.raw\n", argv[0]);
        return 2;
    }
    FILE *in = fopen(argv[1], "rb"), *losses = fopen(argv[2], "r"), *out = fopen(argv[3], "wb");
    if (!in || !losses || !out) {
        perror("cannot open a file");
        return 1;
    }
    plc_state_t *plc = plc_init(NULL);
    int16_t frame[160];
    size_t length;
    while ((length = fread(frame, sizeof frame[0], 160, in)) > 0) {
        if (fgetc(losses) == '1')
            plc_fillin(plc, frame, (int) length);
        else
            plc_rx(plc, frame, (int) length);
        fwrite(frame, sizeof frame[0], length, out);
    }
    plc_free(plc);
    return fclose(out) != 0;
}
