"""A headless phone of pjsua2: plays a file into its calls, records them, and is told by lines what to do.

Reads `call URI`, `answer`, `hangup`, `press KEY`, `record FILE`, `quit`; says `=> ready`, and so on `ringing`, `established`, `over`,
`key KEY`. A line for each file that is recorded: the next call's.

    phone.py --port 5060 --rtp 4000 --play FILE --codec PCMU/8000 [--srtp]
"""
import argparse
import queue
import sys
import threading

import pjsua2 as pj

arguments = argparse.ArgumentParser()
arguments.add_argument("--port", type=int, required=True)
arguments.add_argument("--rtp", type=int, required=True)
arguments.add_argument("--play", required=True)
arguments.add_argument("--codec", required=True)
arguments.add_argument("--rate", type=int, default=8000)
arguments.add_argument("--srtp", action="store_true")
arguments = arguments.parse_args()

orders = queue.Queue()
current = None
recording = None


def say(line):
    print("=> " + line, flush=True)


class Call(pj.Call):
    def onCallState(self, prm):
        state = self.getInfo().state
        if state == pj.PJSIP_INV_STATE_CONFIRMED:
            say("established")
        elif state == pj.PJSIP_INV_STATE_DISCONNECTED:
            say("over")

    def onCallMediaState(self, prm):
        info = self.getInfo()  # What it holds lives no longer than it.
        for media in info.media:
            active = media.status == pj.PJSUA_CALL_MEDIA_ACTIVE
            if media.type == pj.PJMEDIA_TYPE_AUDIO and active and not hasattr(self, "player"):
                audio = self.getAudioMedia(media.index)
                self.player = pj.AudioMediaPlayer()
                self.player.createPlayer(arguments.play)
                self.player.startTransmit(audio)
                self.recorder = pj.AudioMediaRecorder()
                self.recorder.createRecorder(recording)
                audio.startTransmit(self.recorder)

    def onDtmfDigit(self, prm):
        say("key " + prm.digit)


class Account(pj.Account):
    def onIncomingCall(self, prm):
        global current
        current = Call(self, prm.callId)
        answer = pj.CallOpParam()
        answer.statusCode = 180
        current.answer(answer)
        say("ringing")


endpoint = pj.Endpoint()
endpoint.libCreate()
config = pj.EpConfig()
config.uaConfig.threadCnt = 0
config.logConfig.level = config.logConfig.consoleLevel = 4
config.medConfig.clockRate = config.medConfig.sndClockRate = arguments.rate
config.medConfig.noVad = True
config.medConfig.ecTailLen = 0
endpoint.libInit(config)
transport = pj.TransportConfig()
transport.port = arguments.port
transport.boundAddress = transport.publicAddress = "127.0.0.1"
endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
endpoint.libStart()
endpoint.audDevManager().setNullDev()
for codec in endpoint.codecEnum2():
    endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith(arguments.codec) else 0)

profile = pj.AccountConfig()
profile.idUri = "sip:alice@127.0.0.1:%d" % arguments.port
profile.mediaConfig.transportConfig.port = arguments.rtp
profile.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
if arguments.srtp:
    profile.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_MANDATORY
    profile.mediaConfig.srtpSecureSignaling = 0
    profile.mediaConfig.srtpOpt.keyings = pj.IntVector([pj.PJMEDIA_SRTP_KEYING_SDES])
account = Account()
account.create(profile)


def read():
    for line in sys.stdin:
        orders.put(line.strip())
    orders.put("quit")


def obey(word, value):
    global current, recording
    if word == "record":
        recording = value
    elif word == "call":
        current = Call(account)
        current.makeCall("<%s>" % value, pj.CallOpParam(True))
    elif word == "answer":
        answer = pj.CallOpParam()
        answer.statusCode = 200
        current.answer(answer)
    elif word == "hangup":
        current.hangup(pj.CallOpParam())
    elif word == "press":
        current.dialDtmf(value)


threading.Thread(target=read, daemon=True).start()
say("ready")
while True:
    endpoint.libHandleEvents(10)
    try:
        word, _, value = orders.get_nowait().partition(" ")
    except queue.Empty:
        continue
    if word == "quit":
        break
    obey(word, value)
current = None
account.shutdown()
endpoint.libDestroy()
