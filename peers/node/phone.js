// A JsSIP phone without media: it registers, calls, sends a digit by INFO, holds, resumes and hangs up.
//   node phone.js ws://127.0.0.1:PORT sip:USER@HOST PASSWORD sip:CALLEE@HOST
// Each step is printed as it is done. The media stack is a stand-in that always gives the same session description.
'use strict';

const [, , server, account, password, callee] = process.argv;

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

const done = (step) => console.log(`done: ${step}`);
const fail = (why) => { console.log(`failed: ${why}`); process.exit(1); };
const once = (emitter, name) => new Promise((resolve) => emitter.once(name, resolve));
const noTracks = { getTracks: () => [], getAudioTracks: () => [], getVideoTracks: () => [] };

async function run() {
  const agent = new JsSIP.UA({
    sockets: [new JsSIP.WebSocketInterface(server)],
    uri: account,
    password,
    session_timers: false,
  });
  agent.on('registrationFailed', (event) => fail(`registration: ${event.cause}`));
  const registered = once(agent, 'registered');
  agent.start();
  await registered;
  done('register');
  const call = agent.call(callee, { mediaStream: noTracks });
  call.on('failed', (event) => fail(`call: ${event.cause}`));
  await once(call, 'confirmed');
  done('call');
  const answered = once(call, 'newDTMF');
  call.sendDTMF('5', { transportType: 'INFO' });
  await answered;
  done('digit');
  await new Promise((resolve) => call.hold({}, resolve));
  done('hold');
  await new Promise((resolve) => call.unhold({}, resolve));
  done('resume');
  const ended = once(call, 'ended');
  call.terminate();
  await ended;
  done('hang up');
  agent.removeAllListeners('registrationFailed');
  const unregistered = once(agent, 'unregistered');
  agent.unregister();
  await unregistered;
  done('unregister');
  const disconnected = once(agent, 'disconnected');
  agent.stop();
  await disconnected;
  process.exit(0);
}

run().catch((error) => fail(error.stack));
