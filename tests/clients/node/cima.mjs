// A small client of cima: the calls and the socket a web or React Native app needs, and nothing more.

import WebSocket from 'ws';

/** How long anything may take unless a step says otherwise. */
export const DEADLINE_MS = 5_000;

const MAX_FIXES_PER_FRAME = 200;

/** The server did not do what the contract says. */
export class Unexpected extends Error {
  name = 'Unexpected';
}

// --- HTTP ----------------------------------------------------------------------------------------------------------

/** The REST half, with or without a token. */
export class Api {
  constructor(url, token) {
    this.url = url.replace(/\/$/, '');
    this.token = token;
  }

  asBearer(token) {
    return new Api(this.url, token);
  }

  /** One request; any status is an answer, kept to the byte. */
  async send(method, path, body, { idempotencyKey } = {}) {
    const headers = { accept: 'application/json' };
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    if (idempotencyKey) headers['idempotency-key'] = idempotencyKey;
    if (body !== undefined) headers['content-type'] = 'application/json';
    const response = await fetch(this.url + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
    return {
      status: response.status,
      contentType: response.headers.get('content-type') ?? '',
      body: Buffer.from(await response.arrayBuffer()),
    };
  }

  /** One request that must succeed (with `status`, if given); returns its JSON. */
  async call(method, path, body, { status, idempotencyKey } = {}) {
    const answer = await this.send(method, path, body, { idempotencyKey });
    const succeeded = status ? answer.status === status : answer.status >= 200 && answer.status < 300;
    if (!succeeded) {
      const seen = answer.body.toString().slice(0, 600);
      throw new Unexpected(`${method} ${path}: ${answer.status} instead of ${status ?? '2xx'}: ${seen}`);
    }
    return answer.body.length ? JSON.parse(answer.body) : null;
  }

  /** All items of a paged list. */
  async pages(path) {
    const items = [];
    for (let after = null; ; ) {
      const more = after === null ? '' : `${path.includes('?') ? '&' : '?'}after=${after}`;
      const page = await this.call('GET', path + more, undefined, { status: 200 });
      items.push(...page.items);
      if (page.next === null) return items;
      after = page.next;
    }
  }
}

// --- the socket ----------------------------------------------------------------------------------------------------

/**
 * One socket. Frames are kept in the order they came; waiting never sleeps, it ends with a frame or a deadline.
 * A mark (`now()`) is a moment on it: how many frames had come, and when it was.
 */
export class Stream {
  #socket;
  #came = []; // {at, frame}
  #closeCode = null;
  #waiting = new Set();

  /** The newest place of the inbox this socket has told of. */
  cursor = 0;
  opened = { frames: 0, at: performance.now() };

  constructor(socket) {
    this.#socket = socket;
    socket.on('message', (text) => this.#take(JSON.parse(text)));
    socket.on('close', (code) => {
      this.#closeCode = code;
      this.#wake();
    });
    socket.on('error', () => {}); // a `close` follows
  }

  /** Opens `/v1/stream` with the token in the `Authorization` header, as phones do. */
  static withHeader(url, token) {
    return Stream.#open(url, [], { authorization: `Bearer ${token}` });
  }

  /** Opens `/v1/stream` with the token in the subprotocol list, as browsers must, which cannot set headers. */
  static async withSubprotocol(url, token) {
    const stream = await Stream.#open(url, ['cima.v1.json', `bearer.${token}`], {});
    if (stream.#socket.protocol !== 'cima.v1.json') {
      throw new Unexpected(`the server chose the subprotocol ${JSON.stringify(stream.#socket.protocol)}`);
    }
    return stream;
  }

  /** Rejects with an error that has `status` when the upgrade is refused. */
  static #open(url, protocols, headers) {
    const socket = new WebSocket(`${url.replace(/^http/, 'ws').replace(/\/$/, '')}/v1/stream`, protocols, {
      headers,
      perMessageDeflate: false,
      handshakeTimeout: DEADLINE_MS,
    });
    const stream = new Stream(socket);
    return new Promise((resolve, reject) => {
      socket.on('open', () => resolve(stream));
      socket.on('error', reject);
      socket.on('unexpected-response', (request, response) => {
        request.destroy();
        const refusal = new Unexpected(`the upgrade was refused with ${response.statusCode}`);
        reject(Object.assign(refusal, { status: response.statusCode }));
      });
    });
  }

  send(frame) {
    this.sendText(JSON.stringify(frame));
  }

  /** Sends anything; that the socket is closed is for the next `expect` or `closed` to tell. */
  sendText(text) {
    this.#socket.send(text, () => {});
  }

  /** The present moment; what a later `expect` looks for came after it. */
  now() {
    return { frames: this.#came.length, at: performance.now() };
  }

  /** The first frame of this kind that came after a mark, no later than `withinMs` after it. */
  async expect(kind, { where = () => true, after, withinMs = DEADLINE_MS }) {
    const until = after.at + withinMs;
    const found = () =>
      this.#came.slice(after.frames).find(({ at, frame }) => frame.type === kind && at <= until && where(frame));
    const came = await this.#until(() => found() ?? (this.#closeCode !== null && 'closed'), until);
    if (came?.frame) return came.frame;
    const why = came === 'closed' ? `: the socket closed with ${this.#closeCode}` : ` within ${withinMs} ms`;
    throw new Unexpected(`no such \`${kind}\`${why}; ${this.#lastFrames(after.frames)}`);
  }

  /** Fails if a frame of this kind came after the given frame (and before the mark). */
  refuse(kind, { after, before }) {
    const first = this.#came.findIndex(({ frame }) => frame === after) + 1;
    const wrong = this.#came.slice(first, before?.frames).find(({ frame }) => frame.type === kind);
    if (wrong) throw new Unexpected(`\`${kind}\` came after \`${after.type}\`: ${short(wrong.frame)}`);
  }

  /** Replays the inbox after `cursor`: the alerts with their cursors, and the closing `resumed`. */
  async resume(cursor) {
    const asked = this.now();
    this.send({ type: 'resume', cursor });
    const resumed = await this.expect('resumed', { after: asked });
    const frames = this.#came.slice(asked.frames).map(({ frame }) => frame);
    const replayed = frames.slice(0, frames.indexOf(resumed)).filter((frame) => frame.cursor != null);
    return { replayed, resumed };
  }

  /** Waits until the server has read what was sent so far: it answers a `resume` from the newest alert. */
  async settle() {
    const { resumed } = await this.resume(this.cursor);
    if (!resumed.complete) throw new Unexpected(`a resume from the newest cursor is not complete: ${short(resumed)}`);
  }

  /** The code with which the server closes this socket, no later than `withinMs` after a mark. */
  async closed({ after, withinMs }) {
    await this.#until(() => this.#closeCode !== null, after.at + withinMs);
    if (this.#closeCode !== null) return this.#closeCode;
    throw new Unexpected(`the socket is still open after ${withinMs} ms; ${this.#lastFrames(after.frames)}`);
  }

  async close() {
    const asked = this.now();
    this.#socket.close(1000);
    await this.closed({ after: asked, withinMs: DEADLINE_MS });
  }

  #take(frame) {
    if (['welcome', 'alert'].includes(frame.type)) this.cursor = Math.max(this.cursor, frame.cursor ?? 0);
    this.#came.push({ at: performance.now(), frame });
    this.#wake();
  }

  #wake() {
    for (const look of this.#waiting) look();
  }

  /** Looks again at every frame until `condition` yields something or the deadline passes. */
  #until(condition, deadline) {
    return new Promise((resolve) => {
      const finish = (result) => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve(result);
      };
      const look = () => {
        const result = condition();
        if (result) finish(result);
      };
      const timer = setTimeout(() => finish(undefined), Math.max(0, deadline - performance.now()));
      this.#waiting.add(look);
      look();
    });
  }

  #lastFrames(since) {
    const came = this.#came.slice(since).slice(-8).map(({ frame }) => short(frame));
    return `came instead: ${came.join(' | ') || 'nothing'}`;
  }
}

function short(frame) {
  const text = JSON.stringify(frame);
  return text.length <= 400 ? text : `${text.slice(0, 400)}...`;
}

// --- the phone -----------------------------------------------------------------------------------------------------

/** The sending half of a device: numbers its fixes and keeps within the window the server gave it. */
export class Phone {
  #stream;

  constructor(stream, welcome) {
    this.#stream = stream;
    this.seq = welcome.last_seq ?? 0;
    this.window = welcome.window;
  }

  /** The next fix of this device. */
  fix(lat, lon, fixedAt = new Date()) {
    this.seq += 1;
    return { seq: this.seq, lat, lon, fixed_at: fixedAt.toISOString(), accuracy_m: 5, battery: 0.8 };
  }

  /** Sends fixes, never more unacknowledged than the window allows; returns the `seq` that was acked last. */
  async send(fixes) {
    const began = this.#stream.now();
    const waiting = [...fixes];
    let unacked = [];
    let acked = 0;
    while (waiting.length || unacked.length) {
      while (waiting.length && unacked.length < this.window) {
        const batch = waiting.splice(0, Math.min(this.window - unacked.length, MAX_FIXES_PER_FRAME));
        this.#stream.send({ type: 'fixes', fixes: batch });
        unacked.push(...batch.map(({ seq }) => seq));
      }
      const oldest = unacked[0];
      const after = { frames: began.frames, at: performance.now() };
      acked = (await this.#stream.expect('acked', { where: (f) => f.seq >= oldest, after })).seq;
      unacked = unacked.filter((seq) => seq > acked);
    }
    return acked;
  }
}
