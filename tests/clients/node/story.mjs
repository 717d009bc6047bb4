// One story of two people, played through cima's public contract: Ada is in danger, Bo is the one she trusts.
//
//     node story.mjs --url http://127.0.0.1:8080 [--contact-url http://127.0.0.1:8081]
//
// `--contact-url` lets Bo talk to another node than Ada. Bo signs in from a web app: his token goes into the
// subprotocol list, where a browser can put it.

import { randomBytes, randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Api, Phone, Stream, Unexpected } from './cima.mjs';
import { claimsCheckedWith, forgeries } from './tokens.mjs';

/** Ada's home, degrees north and east; her fence is a circle around it. */
const HOME = { lat: 59.3293, lon: 18.0686 };
const FENCE_RADIUS_M = 150;
const METRES_PER_DEGREE = 111_200;
const PASSWORD = 'correct horse battery staple';

// --- telling the story -------------------------------------------------------------------------------------------

/** One step: a line when it passed, its reason when it did not. */
async function step(what, play) {
  const began = performance.now();
  try {
    const result = await play();
    console.log(`ok   node    ${what} (${Math.round(performance.now() - began)} ms)`);
    return result;
  } catch (reason) {
    console.error(`FAIL node    ${what}\n     ${reason.name}: ${reason.message}`);
    process.exit(1);
  }
}

/** Fails with what was expected and what was seen instead. */
function check(holds, otherwise, seen) {
  if (!holds) throw new Unexpected(`${otherwise}; seen: ${JSON.stringify(seen)}`);
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** Checks a refusal: RFC 9457, with the contract's stable word. */
function isProblem(answer, status, code) {
  const seen = { ...answer, body: answer.body.toString() };
  check(answer.status === status, `expected ${status} ${code}`, seen);
  check(answer.contentType.startsWith('application/problem+json'), 'expected application/problem+json', seen);
  const problem = JSON.parse(answer.body);
  check(problem.code === code && problem.status === status, `expected ${status} ${code}`, seen);
}

/** The emergency an answer speaks of, whether it names it or shows it whole. */
const emergencyId = ({ emergency }) => emergency?.id ?? emergency;

/** A condition on `alert` and `emergency` frames: of this emergency, with these fields. */
function of(emergency, fields = {}) {
  return (frame) => {
    const shown = typeof frame.emergency === 'object' ? frame.emergency : frame;
    const isThis = [shown?.id, shown?.emergency].includes(emergency);
    return isThis && Object.entries(fields).every(([field, value]) => shown[field] === value);
  };
}

// --- the people --------------------------------------------------------------------------------------------------

/** One sign-in of a person: its tokens, and its socket once it is open. */
class Device {
  constructor(door, session) {
    this.id = session.device_id;
    this.accessToken = session.access_token;
    this.distressToken = session.distress_token;
    this.api = door.asBearer(session.access_token);
  }

  /** Opens the socket and waits for its `welcome`. */
  async open({ likeABrowser = false } = {}) {
    const open = likeABrowser ? Stream.withSubprotocol : Stream.withHeader;
    this.stream = await open(this.api.url, this.accessToken);
    const welcome = await this.stream.expect('welcome', { after: this.stream.opened });
    this.phone = new Phone(this.stream, welcome);
    return welcome;
  }
}

/** Someone with a fresh handle. */
class Person {
  constructor(url, name) {
    this.door = new Api(url);
    this.name = name;
    this.handle = `${name.toLowerCase()}_${randomBytes(6).toString('hex')}`;
  }

  async signUp() {
    const account = { handle: this.handle, password: PASSWORD, display_name: this.name };
    const made = await this.door.call('POST', '/v1/accounts', account, { status: 201 });
    check(made.handle === this.handle && made.display_name === this.name, 'not the account asked for', made);
    this.id = made.user_id;
  }

  async signIn(name, platform) {
    const login = { handle: this.handle, password: PASSWORD, device: { name, platform } };
    const session = await this.door.call('POST', '/v1/sessions', login, { status: 201 });
    check(session.user_id === this.id, 'a session of somebody else', session.user_id);
    check(session.expires_in >= 600 && session.expires_in <= 900, 'not 10 to 15 min', session.expires_in);
    return new Device(this.door, session);
  }
}

/** What the chapters hand on. */
class Story {
  constructor(ada, bo) {
    Object.assign(this, { ada, bo });
  }

  /** Bo gets the same bytes for every reason not to see Ada. */
  async positionIsHidden() {
    const answer = await this.bos.api.send('GET', `/v1/people/${this.ada.id}/location`);
    isProblem(answer, 404, 'not_available');
    this.hidden ??= answer.body;
    check(answer.body.equals(this.hidden), `a refusal that differs from the first, ${this.hidden}`, `${answer.body}`);
  }

  /** Bo asks to watch Ada; returns the mark of his asking. */
  watch() {
    const asked = this.bos.stream.now();
    this.bos.stream.send({ type: 'watch', user: this.ada.id });
    return asked;
  }

  isAda = (frame) => frame.user === this.ada.id;
}

const northOfHome = (metres) => [HOME.lat + metres / METRES_PER_DEGREE, HOME.lon];

/** Half a minute of walking along the meridian of home. */
function walk(phone, { fromM, toM, beganMs, fixes }) {
  const parts = Array.from({ length: fixes }, (_, n) => n / fixes);
  return parts.map((part) =>
    phone.fix(...northOfHome(fromM + part * (toM - fromM)), new Date(beganMs + 30_000 * part)),
  );
}

/** A few fixes of now, metres from each other. */
function stepsAtHome(phone, fixes = 3) {
  return Array.from({ length: fixes }, (_, n) => phone.fix(...northOfHome(2 * n)));
}

// --- chapter 1: two people and a link ----------------------------------------------------------------------------

async function meet(url, contactUrl) {
  const story = new Story(new Person(url, 'Ada'), new Person(contactUrl, 'Bo'));
  const { ada, bo } = story;
  await step('sign up two people', async () => {
    await ada.signUp();
    await bo.signUp();
  });
  await step('a handle that is taken is a conflict, whatever its case', async () => {
    const again = { handle: ada.handle.toUpperCase(), password: PASSWORD, display_name: 'Not Ada' };
    isProblem(await ada.door.send('POST', '/v1/accounts', again), 409, 'conflict');
  });
  await step('sign in on a device each', async () => {
    story.adas = await ada.signIn("Ada's phone", 'android');
    story.bos = await bo.signIn("Bo's browser", 'web');
  });
  await step('the access token verifies against the published key', async () => {
    const jwks = await ada.door.call('GET', '/.well-known/jwks.json');
    const { sub, did, aud } = claimsCheckedWith(jwks, story.adas.accessToken);
    check(same([sub, did, aud], [ada.id, story.adas.id, 'cima']), "not the claims of Ada's phone", { sub, did, aud });
  });

  await step('Ada asks Bo to be her contact', async () => {
    const wish = { contact: bo.handle, scopes: ['alerts', 'emergency_location'], tier: 1 };
    const once = { status: 201, idempotencyKey: randomUUID() };
    const link = await story.adas.api.call('POST', '/v1/links', wish, once);
    check(link.state === 'pending' && same(link.scopes.sort(), wish.scopes), 'not the link asked for', link);
    check(same([link.subject, link.contact], [ada.id, bo.id]), 'a link between others', link);
    story.link = link.id;
  });
  await step('before he accepts, Bo sees nothing', () => story.positionIsHidden());
  await step('Bo finds the link and accepts it', async () => {
    const asked = await story.bos.api.pages('/v1/links?role=contact');
    check(same(asked.map(({ id }) => id), [story.link]), 'expected the one link', asked);
    await story.bos.api.call('POST', `/v1/links/${story.link}/accept`);
    const links = await story.adas.api.pages('/v1/links?role=subject');
    check(same(links.map(({ id, state }) => [id, state]), [[story.link, 'active']]), 'not in force', links);
  });
  return story;
}

// --- chapter 2: a fence ------------------------------------------------------------------------------------------

async function comeHome(story) {
  await step('Ada draws a circle around her home', async () => {
    const fence = {
      id: randomUUID(),
      name: 'home',
      shape: { type: 'Circle', center: [HOME.lon, HOME.lat], radius_m: FENCE_RADIUS_M },
      triggers: ['enter', 'exit'],
    };
    const made = await story.adas.api.call('POST', '/v1/geofences', fence, { status: 201 });
    check(made.id === fence.id && made.name === 'home', 'not the fence asked for', made);
    story.fence = made.id;
  });
  await step('both open the stream and are welcomed', async () => {
    isWelcome(await story.adas.open());
    isWelcome(await story.bos.open({ likeABrowser: true }));
    story.firstCursor = story.bos.stream.cursor;
  });

  const { phone } = story.adas;
  const bo = story.bos.stream;
  const beganMs = Date.now() - 60_000;
  await step("Ada's fixes outside the fence are acked, two windows full of them", async () => {
    const acked = await phone.send(walk(phone, { fromM: 400, toM: 250, beganMs, fixes: 2 * phone.window }));
    check(acked === phone.seq, `expected \`acked\` ${phone.seq}`, acked);
  });
  const atHome = bo.now();
  await step("Ada's fixes inside the fence are acked", async () => {
    const acked = await phone.send(walk(phone, { fromM: 120, toM: 0, beganMs: beganMs + 30_000, fixes: 5 }));
    check(acked === phone.seq, `expected \`acked\` ${phone.seq}`, acked);
  });
  const alert = await step('Bo is told that Ada entered', async () => {
    const where = (frame) => frame.geofence === story.fence && frame.cursor != null;
    const told = await bo.expect('alert', { where, after: atHome });
    check(told.transition === 'enter' && told.subject === story.ada.id, 'not Ada entering', told);
    check(told.cursor > story.firstCursor, 'not a cursor beyond the one of `welcome`', told);
    check(told.title && told.body && told.template, 'an alert without text', told);
    return told;
  });
  await step("Bo's app acknowledges: received, then seen", async () => {
    for (const state of ['received', 'seen']) bo.send({ type: 'ack', alert: alert.id, state });
    await bo.settle();
    bo.refuse('error', { after: alert });
    await story.bos.api.call('POST', `/v1/alerts/${alert.id}/ack`, { state: 'seen' });
  });
  await step("an alert shows no position: Bo's watch is refused, his GET gets the first bytes", async () => {
    await bo.expect('unavailable', { where: story.isAda, after: story.watch() });
    await story.positionIsHidden();
  });
}

/** Checks the fields of the first frame. */
function isWelcome(welcome) {
  for (const field of ['last_seq', 'cursor', 'window', 'heartbeat_s']) {
    check(Number.isInteger(welcome[field]), `\`welcome\` without a number in \`${field}\``, welcome);
  }
  check(typeof welcome.session === 'string', '`welcome` without `session`', welcome);
  const inMs = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
  check(inMs.test(welcome.now), '`now` is not RFC 3339 in UTC with milliseconds', welcome);
  check(welcome.window > 0 && welcome.heartbeat_s > 0, 'no window or no heartbeat', welcome);
  check(welcome.last_seq === 0, '`last_seq` is not 0 for a device that has sent nothing', welcome);
}

// --- chapter 3: an emergency over the socket ---------------------------------------------------------------------

async function sos(story) {
  const { stream: ada, phone } = story.adas;
  const bo = story.bos.stream;
  const frame = { type: 'emergency', id: randomUUID(), kind: 'sos', fix: phone.fix(...northOfHome(10)) };
  const emergency = frame.id;
  const raisedAt = bo.now();
  await step('Ada raises an SOS over the socket', async () => {
    const accepted = await raiseOverSocket(ada, frame);
    check(emergencyId(accepted) === emergency && accepted.state === 'active', 'not her emergency', accepted);
    check(accepted.copies >= 1 && accepted.copies <= accepted.copies_max, 'no durable copy', accepted);
  });
  await step('the same frame again is the same emergency', async () => {
    const again = await raiseOverSocket(ada, frame);
    check(emergencyId(again) === emergency && !again.joined?.length, 'another emergency', again);
  });
  const alert = await step('Bo is told: an alert and the state', async () => {
    const raised = of(emergency, { kind: 'emergency' });
    const told = await bo.expect('alert', { where: (f) => raised(f) && f.cursor != null, after: raisedAt });
    const state = await bo.expect('emergency', { where: of(emergency, { state: 'active' }), after: raisedAt });
    check(state.emergency.subject === story.ada.id, "not Ada's", state);
    check(!('deliveries' in state.emergency), '`deliveries` are for the subject only', state);
    return told;
  });
  await step('Bo watches Ada and gets the newest fix first', async () => {
    const position = await bo.expect('position', { after: story.watch() });
    check(same([position.user, position.basis], [story.ada.id, 'emergency']), 'not by emergency', position);
    check(position.device === story.adas.id, 'another device', position);
    check(position.fix.seq === frame.fix.seq, 'not the fix of the SOS', position);
  });
  await step('live positions follow as Ada moves', () => followsLive(story));
  await step('Bo claims: Ada sees that he is on it', async () => {
    const after = ada.now();
    bo.send({ type: 'claim', emergency });
    const claimedByBo = (f) => of(emergency)(f) && JSON.stringify(f.emergency.claims ?? []).includes(story.bo.id);
    await ada.expect('emergency', { where: claimedByBo, after });
  });
  await step('Ada sees how far the alert has come, Bo does not', async () => {
    bo.send({ type: 'ack', alert: alert.id, state: 'seen' });
    await bo.settle();
    const own = await story.adas.api.call('GET', `/v1/emergencies/${emergency}`, undefined, { status: 200 });
    check(JSON.stringify(own.deliveries ?? []).includes(story.bo.id), 'no delivery to Bo', own);
    const told = await story.bos.api.call('GET', `/v1/emergencies/${emergency}`, undefined, { status: 200 });
    check(!('deliveries' in told), '`deliveries` are for the subject only', told);
  });
  await step('Bo can ask for the position and the trail', async () => {
    const where = await story.bos.api.call('GET', `/v1/people/${story.ada.id}/location`, undefined, { status: 200 });
    check(same([where.user, where.basis], [story.ada.id, 'emergency']), 'not by emergency', where);
    check(same([where.device, where.fix.seq], [story.adas.id, phone.seq]), 'not the newest fix', where);
    check('received_at' in where, 'no `received_at`', where);
    const trail = await story.bos.api.call('GET', `/v1/people/${story.ada.id}/track`, undefined, { status: 200 });
    check(trail.type === 'FeatureCollection' && trail.features.length, 'an empty trail', trail);
  });

  const unavailable = await step('Ada is safe: within 2 s Bo is told and the positions end', async () => {
    const endedAt = bo.now();
    await story.adas.api.call('POST', `/v1/emergencies/${emergency}/resolve`, {});
    const end = await noLongerAvailable(story, endedAt);
    const where = of(emergency, { state: 'resolved' });
    await bo.expect('emergency', { where, after: endedAt, withinMs: 2_000 });
    return end;
  });
  await step('Ada streams on, Bo sees none of it', async () => {
    await phone.send(stepsAtHome(phone));
    await story.positionIsHidden();
    await bo.settle();
    bo.refuse('position', { after: unavailable });
  });
  await step('Ada can read that Bo has seen her', async () => {
    const seenBy = await story.adas.api.pages('/v1/me/disclosures');
    const rows = seenBy.filter(({ viewer, basis }) => viewer === story.bo.id && basis === 'emergency');
    check(same(rows.map((row) => row.emergency), [emergency]), 'expected one row for Bo', seenBy);
  });

  await secondEmergency(story, unavailable);
}

function raiseOverSocket(stream, frame) {
  const after = stream.now();
  stream.send(frame);
  return stream.expect('accepted', { where: ({ id }) => id === frame.id, after });
}

/** Bo gets Ada's newest fix soon after it was sent; the ones between may be left out. */
async function followsLive(story) {
  const after = story.bos.stream.now();
  const { phone } = story.adas;
  await phone.send(stepsAtHome(phone));
  const position = await story.bos.stream.expect('position', { where: (f) => f.fix.seq === phone.seq, after });
  check(position.basis === 'emergency', 'not by emergency', position);
}

function noLongerAvailable(story, endedAt) {
  return story.bos.stream.expect('unavailable', { where: story.isAda, after: endedAt, withinMs: 2_000 });
}

// --- chapter 4: an emergency full of garbage, and the end of trust -----------------------------------------------

async function secondEmergency(story, resolved) {
  const { phone } = story.adas;
  const bo = story.bos.stream;
  const raisedAt = bo.now();
  const emergency = await step('a raise full of garbage is a raise', async () => {
    const garbage = { kind: 'dragon', colour: ['red'], countdown_s: 'soon', fix: { lat: 'north', seq: -1 } };
    const raised = await story.adas.api.call('POST', '/v1/emergencies', garbage, { status: 201 });
    check(JSON.stringify(raised.notes ?? []).includes('fix'), 'the bad fix is not named in `notes`', raised);
    check(raised.copies >= 1 && raised.copies <= raised.copies_max, 'no durable copy', raised);
    const id = emergencyId(raised);
    const shown = await story.adas.api.call('GET', `/v1/emergencies/${id}`, undefined, { status: 200 });
    check(same([shown.kind, shown.state], ['other', 'active']), 'not active, or not `other`', shown);
    return id;
  });
  await step('Bo is told, watches again, and had seen nothing in between', async () => {
    await bo.expect('alert', { where: of(emergency, { kind: 'emergency' }), after: raisedAt });
    const watchedAt = story.watch();
    bo.refuse('position', { after: resolved, before: watchedAt });
    const position = await bo.expect('position', { after: watchedAt });
    check(same([position.fix.seq, position.basis], [phone.seq, 'emergency']), 'not the newest fix', position);
    await followsLive(story);
  });
  await step('Ada ends the link in mid-emergency: within 2 s Bo sees nothing', async () => {
    const endedAt = bo.now();
    await story.adas.api.call('DELETE', `/v1/links/${story.link}`);
    const unavailable = await noLongerAvailable(story, endedAt);
    await story.positionIsHidden();
    await phone.send(stepsAtHome(phone));
    await bo.settle();
    bo.refuse('position', { after: unavailable });
  });
  await step('the emergency and the link are gone for Bo', async () => {
    isProblem(await story.bos.api.send('GET', `/v1/emergencies/${emergency}`), 404, 'not_found');
    const links = await story.bos.api.pages('/v1/links?role=contact');
    check(links.length === 0, 'the ended link is still listed', links);
  });
  await step('Ada cancels', async () => {
    await story.adas.api.call('POST', `/v1/emergencies/${emergency}/cancel`, {});
    const shown = await story.adas.api.call('GET', `/v1/emergencies/${emergency}`, undefined, { status: 200 });
    check(shown.state === 'cancelled', 'not cancelled', shown);
  });
}

// --- chapter 5: Bo's app was away --------------------------------------------------------------------------------

async function catchUp(story) {
  await story.bos.stream.close();
  const replayed = await step('after a reconnect, a resume replays the inbox without gaps', async () => {
    const welcome = await story.bos.open({ likeABrowser: true });
    const { replayed: alerts, resumed } = await story.bos.stream.resume(story.firstCursor);
    check(resumed.complete === true, 'not complete', resumed);
    const cursors = alerts.map(({ cursor }) => cursor);
    const gapless = Array.from({ length: welcome.cursor - story.firstCursor }, (_, n) => story.firstCursor + 1 + n);
    check(gapless.length && same(cursors, gapless), `expected the cursors ${gapless}`, cursors);
    return alerts;
  });
  await step('the inbox over HTTP is the same', async () => {
    const listed = await story.bos.api.pages(`/v1/alerts?after=${story.firstCursor}`);
    const places = (alerts) => alerts.map(({ cursor, id }) => [cursor, id]);
    check(same(places(listed), places(replayed)), 'another inbox', places(listed));
  });
}

// --- chapter 6: a stolen phone -----------------------------------------------------------------------------------

async function replaceThePhone(story) {
  const stolen = story.adas;
  await step('Ada signs in on a second device', async () => {
    story.adas = await story.ada.signIn("Ada's new phone", 'ios');
    check(story.adas.id !== stolen.id, 'the same device', story.adas.id);
  });
  await step('she removes the first: its socket closes with 4403 within a second, its token gets 401', async () => {
    const removedAt = stolen.stream.now();
    await story.adas.api.call('DELETE', `/v1/devices/${stolen.id}`);
    const code = await stolen.stream.closed({ after: removedAt, withinMs: 1_000 });
    check(code === 4403, 'expected close code 4403', code);
    isProblem(await stolen.api.send('GET', '/v1/me'), 401, 'unauthenticated');
  });
  await step('a distress token raises, and reads nothing', async () => {
    const distress = story.ada.door.asBearer(story.adas.distressToken);
    const silent = { id: randomUUID(), kind: 'silent' };
    const raised = await distress.call('POST', '/v1/emergencies', silent, { status: 201 });
    isProblem(await distress.send('GET', '/v1/me'), 403, 'forbidden');
    await story.adas.api.call('POST', `/v1/emergencies/${emergencyId(raised)}/cancel`, {});
  });
}

// --- chapter 7: bad input ----------------------------------------------------------------------------------------

async function misbehave(story) {
  await step('the new phone opens the stream', async () => isWelcome(await story.adas.open()));
  const { stream: ada, phone } = story.adas;
  await step('a truncated frame gets an `error`, and the socket lives on', async () => {
    const after = ada.now();
    ada.sendText('{"type":"fixes","fixes":[{"seq":1,');
    const error = await ada.expect('error', { after });
    check(typeof error.code === 'string', 'an error without a code', error);
    await phone.send(stepsAtHome(phone, 1));
  });
  await step('latitude 91 is rejected by its seq, the fix beside it is kept', async () => {
    const after = ada.now();
    const [bad, good] = [phone.fix(91, 18), phone.fix(HOME.lat, HOME.lon)];
    const acked = await phone.send([bad, good]);
    const rejected = await ada.expect('rejected', { after });
    check(same([rejected.seq, rejected.code], [bad.seq, 'out_of_range']), 'another refusal', rejected);
    check(acked === good.seq, `expected \`acked\` ${good.seq}`, acked);
  });
  await step('a frame of 1 MB closes the socket with 1009', async () => {
    const after = ada.now();
    ada.send({ type: 'fixes', fixes: [], padding: 'x'.repeat(1_000_000) });
    const code = await ada.closed({ after, withinMs: 5_000 });
    check(code === 1009, 'expected close code 1009', code);
  });
  await step('forged tokens open no door', async () => {
    const { door } = story.ada;
    const jwks = await door.call('GET', '/.well-known/jwks.json');
    for (const [what, forged] of Object.entries(forgeries(jwks, story.adas.accessToken))) {
      const answer = await door.asBearer(forged).send('GET', '/v1/me');
      check(answer.status === 401, `${what}: expected 401 from GET /v1/me`, answer.status);
      const upgrade = await Stream.withHeader(door.url, forged).catch((refusal) => refusal);
      check(upgrade.status === 401, `${what}: expected 401 at the upgrade`, upgrade.message ?? 'it opened');
      const stream = await Stream.withSubprotocol(door.url, forged);
      const code = await stream.closed({ after: stream.opened, withinMs: 5_000 });
      check(code === 4401, `${what}: expected close code 4401`, code);
    }
  });
  await step('the good token still works', async () => {
    const me = await story.adas.api.call('GET', '/v1/me', undefined, { status: 200 });
    check(me.display_name === 'Ada', 'not Ada', me);
  });
}

const { values: given } = parseArgs({ options: { url: { type: 'string' }, 'contact-url': { type: 'string' } } });
if (!given.url) {
  console.error('usage: node story.mjs --url http://127.0.0.1:8080 [--contact-url http://127.0.0.1:8081]');
  process.exit(2);
}
const story = await meet(given.url, given['contact-url'] ?? given.url);
await comeHome(story);
await sos(story);
await catchUp(story);
await replaceThePhone(story);
await misbehave(story);
await story.bos.stream.close();
