/* The C libraries that our codecs, resampler, jitter buffer and SRTP are measured beside, each behind a few plain
 * functions. What is made here lives until the process ends. */

#include <dlfcn.h>
#include <libavcodec/avcodec.h>
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
#include <soxr.h>
#include <spandsp.h>
#include <speex/speex_jitter.h>
#include <speex/speex_resampler.h>
#include <srtp2/srtp.h>
#include <stdlib.h>
#include <string.h>

/* G.711 and G.722 of spandsp; a law is 'u' or 'a'. */

void *spandsp_g711(char law) { return g711_init(NULL, law == 'a' ? G711_ALAW : G711_ULAW); }
int spandsp_g711_encode(void *state, uint8_t *out, const int16_t *pcm, int count) {
    return g711_encode(state, out, pcm, count);
}
int spandsp_g711_decode(void *state, int16_t *pcm, const uint8_t *octets, int count) {
    return g711_decode(state, pcm, octets, count);
}

void *spandsp_g722_encoder(void) { return g722_encode_init(NULL, 64000, 0); }
void *spandsp_g722_decoder(void) { return g722_decode_init(NULL, 64000, 0); }
int spandsp_g722_encode(void *state, uint8_t *out, const int16_t *pcm, int count) {
    return g722_encode(state, out, pcm, count);
}
int spandsp_g722_decode(void *state, int16_t *pcm, const uint8_t *octets, int count) {
    return g722_decode(state, pcm, octets, count);
}

/* A mono codec of libavcodec, by name: "pcm_mulaw", "pcm_alaw", "g722". */

struct av {
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame;
};

static struct av *av_open(const AVCodec *codec, int rate) {
    struct av *av = calloc(1, sizeof *av);
    if (!av || !codec) return NULL;
    av->codec = avcodec_alloc_context3(codec);
    av->packet = av_packet_alloc();
    av->frame = av_frame_alloc();
    av->codec->sample_rate = rate;
    av->codec->sample_fmt = AV_SAMPLE_FMT_S16;
    av_channel_layout_default(&av->codec->ch_layout, 1);
    return avcodec_open2(av->codec, codec, NULL) == 0 ? av : NULL;
}
void *avcodec_encoder(const char *name, int rate) { return av_open(avcodec_find_encoder_by_name(name), rate); }
void *avcodec_decoder(const char *name, int rate) { return av_open(avcodec_find_decoder_by_name(name), rate); }

int avcodec_encode(void *state, uint8_t *out, const int16_t *pcm, int count) {
    struct av *av = state;
    av->frame->nb_samples = count;
    av->frame->format = AV_SAMPLE_FMT_S16;
    av->frame->sample_rate = av->codec->sample_rate;
    av_channel_layout_default(&av->frame->ch_layout, 1);
    av->frame->data[0] = (uint8_t *)pcm;
    av->frame->extended_data = av->frame->data;
    av->frame->linesize[0] = count * 2;
    if (avcodec_send_frame(av->codec, av->frame) || avcodec_receive_packet(av->codec, av->packet)) return -1;
    int length = av->packet->size;
    memcpy(out, av->packet->data, length);
    av_packet_unref(av->packet);
    return length;
}

int avcodec_decode(void *state, int16_t *pcm, const uint8_t *octets, int count) {
    struct av *av = state;
    av->packet->data = (uint8_t *)octets;
    av->packet->size = count;
    if (avcodec_send_packet(av->codec, av->packet) || avcodec_receive_frame(av->codec, av->frame)) return -1;
    int samples = av->frame->nb_samples;
    memcpy(pcm, av->frame->data[0], samples * 2);
    av_frame_unref(av->frame);
    return samples;
}

/* Resampling of one channel; each answers the samples that came out. */

void *speexdsp_resampler(int from, int to, int quality) {
    int error;
    return speex_resampler_init(1, from, to, quality, &error);
}
int speexdsp_resample(void *state, const int16_t *in, int count, int16_t *out, int room) {
    spx_uint32_t taken = count, made = room;
    speex_resampler_process_int(state, 0, in, &taken, out, &made);
    return made;
}

void *soxr_hq(int from, int to) {
    soxr_io_spec_t samples = soxr_io_spec(SOXR_INT16_I, SOXR_INT16_I);
    soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
    return soxr_create(from, to, 1, NULL, &samples, &quality, NULL);
}
int soxr_resample(void *state, const int16_t *in, int count, int16_t *out, int room) {
    size_t taken, made;
    soxr_process(state, in, count, &taken, out, room, &made);
    return made;
}

void *swr_default(int from, int to) {
    AVChannelLayout mono;
    SwrContext *swr = NULL;
    av_channel_layout_default(&mono, 1);
    if (swr_alloc_set_opts2(&swr, &mono, AV_SAMPLE_FMT_S16, to, &mono, AV_SAMPLE_FMT_S16, from, 0, NULL)) return NULL;
    return swr_init(swr) == 0 ? swr : NULL;
}
int swr_resample(void *state, const int16_t *in, int count, int16_t *out, int room) {
    const uint8_t *from = (const uint8_t *)in;
    uint8_t *to = (uint8_t *)out;
    return swr_convert(state, &to, room, &from, count);
}

/* The jitter buffer of speexdsp: one packet in, one out. Answers the length that came out. */

void *speexdsp_jitter(int step) { return jitter_buffer_init(step); }
int speexdsp_jitter_step(void *state, const uint8_t *payload, int length, int timestamp, int span, uint8_t *out) {
    JitterBufferPacket in = {(char *)payload, length, timestamp, span, 0, 0};
    JitterBufferPacket got = {(char *)out, 2048, 0, 0, 0, 0};
    spx_int32_t offset;
    jitter_buffer_put(state, &in);
    int result = jitter_buffer_get(state, &got, span, &offset);
    jitter_buffer_tick(state);
    return result == JITTER_BUFFER_OK ? (int)got.len : 0;
}

/* libsrtp, one direction of one SSRC: suite 0 is AES_CM_128_HMAC_SHA1_80, suite 1 AEAD_AES_128_GCM. */

void *libsrtp_session(int suite, const uint8_t *key, int inbound) {
    static int ready;
    if (!ready++) srtp_init();
    srtp_policy_t policy;
    memset(&policy, 0, sizeof policy);
    if (suite == 0) {
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtp);
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtcp);
    } else {
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtp);
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtcp);
    }
    policy.ssrc.type = inbound ? ssrc_any_inbound : ssrc_any_outbound;
    policy.key = (uint8_t *)key;
    policy.window_size = 1024;
    srtp_t session;
    return srtp_create(&session, &policy) == srtp_err_status_ok ? session : NULL;
}
int libsrtp_protect(void *session, uint8_t *packet, int length) {
    return srtp_protect(session, packet, &length) == srtp_err_status_ok ? length : -1;
}
int libsrtp_unprotect(void *session, uint8_t *packet, int length) {
    return srtp_unprotect(session, packet, &length) == srtp_err_status_ok ? length : -1;
}

/* The libopus of the system, kept apart from the one that is built in: a mono coder at 16 kHz and 20 kbit/s,
 * complexity 5. */

static void *system_opus(const char *name) {
    static void *library;
    if (!library) library = dlopen("libopus.so.0", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    return library ? dlsym(library, name) : NULL;
}
void *libopus_encoder(void) {
    void *(*create)(int32_t, int, int, int *) = system_opus("opus_encoder_create");
    int (*set)(void *, int, ...) = system_opus("opus_encoder_ctl");
    int error;
    if (!create || !set) return NULL;
    void *encoder = create(16000, 1, 2048 /* VoIP */, &error);
    set(encoder, 4002 /* bitrate */, 20000);
    set(encoder, 4010 /* complexity */, 5);
    set(encoder, 4024 /* signal */, 3001 /* voice */);
    return encoder;
}
int libopus_encode(void *encoder, uint8_t *out, const int16_t *pcm, int count) {
    static int (*encode)(void *, const int16_t *, int, uint8_t *, int32_t);
    if (!encode) encode = system_opus("opus_encode");
    return encode(encoder, pcm, count, out, 1500);
}
void *libopus_decoder(void) {
    void *(*create)(int32_t, int, int *) = system_opus("opus_decoder_create");
    int error;
    return create ? create(16000, 1, &error) : NULL;
}
int libopus_decode(void *decoder, int16_t *pcm, const uint8_t *packet, int length) {
    static int (*decode)(void *, const uint8_t *, int32_t, int16_t *, int, int);
    if (!decode) decode = system_opus("opus_decode");
    return decode(decoder, packet, length, pcm, 320, 0);
}
