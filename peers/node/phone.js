// A JsSIP phone without media: it registers, does what it reads, a command a line, and prints what happens.
//   node phone.js ws://127.0.0.1:PORT sip:USER@HOST PASSWORD
// The media stack is a stand-in that always gives the same session description.
'use strict';

const [, , server, account, password] = process.argv;

const session = (direction) => [
  'v=0', 'o=- 1 1 IN IP4 127.0.0.1', 's=-', 'c=IN IP4 127.0.0.1', 't=0 0',
  'm=audio 9 RTP/AVP 0', 'a=rtpmap:0 PCMU/8000', `a=${direction}`, '',
].join('\r\n');

class PeerConnection extends EventTarget {
  signalingState = 'stable';
  iceGatheringState = 'complete';
  iceConnectionState = 'connected';
  async createOffer() { return { type: 'offer', sdp: session('sendrecv') }; }
  async createAnswer() { return { type: 'answer', sdp: session('sendrecv') }; }
  async setLocalDescription(description) { this.localDescription = description; }
  async setRemoteDescription(description) { this.remoteDescription = description; }
  getSenders() { return []; }
  addTrack() {}
  addStream() {}
  close() { this.signalingState = 'closed'; }
}

globalThis.window = globalThis;
globalThis.WebSocket = require('ws');
globalThis.RTCPeerConnection = PeerConnection;
globalThis.RTCSessionDescription = class { constructor(description) { Object.assign(this, description); } };
const JsSIP = require('jssip');


const tell = (what) => console.log(what);
const fail = (why) => { tell(`failed: ${why}`); process.exit(1); };
const noTracks = { getTracks: () => [], getAudioTracks: () => [], getVideoTracks: () => [] };
const media = { mediaStream: noTracks };

const agent = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(server)],
  uri: account,
  password,
  session_timers: false,
});
let call = null;

function watch({ originator, session }) {
  call = session;
  if (originator === 'remote') tell('ringing');
  session.on('confirmed', () => tell('established'));
  session.on('ended', ({ cause }) => tell(`over: ${cause}`));
  session.on('failed', ({ cause }) => tell(`over: ${cause}`));
  session.on('newDTMF', ({ originator: sender, dtmf }) => { if (sender === 'remote') tell(`digit ${dtmf.tone}`); });
  session.on('refer', ({ accept }) => accept(undefined, media));
  session.on('replaces', ({ accept }) => accept(() => call.answer(media)));
}

function transfer(uri) {
  const outcome = call.refer(uri);
  outcome.on('accepted', () => tell('transferred'));
}

function quit() {
  agent.on('disconnected', () => process.exit(0));
  agent.on('unregistered', () => agent.stop());
  agent.unregister();
}

const commands = {
  call: (uri) => agent.call(uri, media),
  answer: () => call.answer(media),
  hangup: () => call.terminate(),
  hold: () => call.hold({}, () => tell('done: hold')),
  resume: () => call.unhold({}, () => tell('done: resume')),
  update: () => call.renegotiate({ useUpdate: true }, () => tell('done: update')),
  digit: () => call.sendDTMF('5', { transportType: 'INFO' }),
  transfer,
  message: (uri) => agent.sendMessage(uri, 'hello'),
  options: (uri) => agent.sendOptions(uri),
  quit,
};

agent.on('registered', () => tell('registered'));
agent.on('registrationFailed', ({ cause }) => fail(`registration: ${cause}`));
agent.on('newRTCSession', watch);
agent.on('newMessage', ({ originator, request }) => { if (originator === 'remote') tell(`message ${request.body}`); });
agent.start();

require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const [name, ...words] = line.split(' ');
  try {
    commands[name](...words);
  } catch (error) {
    fail(error.stack);
  }
});
