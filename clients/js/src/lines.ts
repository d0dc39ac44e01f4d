import type { Door } from "./doors.js";
import type { Environment } from "./environment.js";
import { PROTOCOL, read, understand, type Frame } from "./protocol.js";
import type { Release } from "./places.js";

/** A connection through a door, from its opening on. */
export interface Line {
  readonly door: Door;
  /** The server speaks the subprotocol. */
  readonly typed: boolean;
  /**
   * Sends the subscription. On a stream or poll, it ends the request that runs, and begins another.
   *
   * @param wait how many seconds a poll may take
   */
  send(message: string, wait: number): boolean;
  /** Ends the connection. Nothing is heard of it afterwards. */
  close(code?: number): void;
}

/** What a line tells. */
export interface Ear {
  frame(frame: Frame): void;
  /** Bytes of a stream have come, such as a heartbeat. `cut`: they end within a frame. */
  beat(cut: boolean): void;
  /** A poll was answered, or a stream has ended in good order: the line has no request now. */
  idle(retry: number): void;
  end(ending: Ending): void;
}

export interface Ending {
  /** That of the close frame; 1006 without one. */
  code: number;
  reason: string;
  /** The handshake, or the request, had succeeded. */
  opened: boolean;
  /** The HTTP status, if it is known. */
  status?: number;
}

const OPEN = 1; // WebSocket.OPEN, where there may be no such global

/** A WebSocket. */
export class SocketLine implements Line {
  readonly door = "websocket";
  readonly #socket: WebSocket;
  #heard = true;

  /** Throws where the page's policy forbids the connection. */
  constructor(env: Environment, url: string, offer: boolean, ear: Ear) {
    const socket = new env.WebSocket!(url.replace(/^http/, "ws"), offer ? [PROTOCOL] : []);
    this.#socket = socket;
    let opened = false;
    // A socket that was given up says nothing any more, whatever comes of it.
    socket.onopen = () => (opened = true);
    socket.onmessage = ({ data }) => {
      opened = true;
      if (this.#heard) ear.frame(read(String(data), this.typed));
    };
    // The package ws throws errors that no listener takes; the close that follows says the same.
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => {
      if (this.#heard) ear.end({ code, reason, opened });
    };
  }

  get typed(): boolean {
    return this.#socket.protocol === PROTOCOL;
  }

  send(message: string): boolean {
    if (this.#socket.readyState !== OPEN) return false;
    this.#socket.send(message);
    return true;
  }

  close(code?: number): void {
    this.#heard = false;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(code);
  }
}

/** Requests, one at a time: an event stream, or polls. */
export class RequestLine implements Line {
  readonly typed = true;
  readonly door: Exclude<Door, "websocket">;
  readonly #env: Environment;
  readonly #url: string;
  readonly #ear: Ear;
  #request: AbortController | undefined;

  constructor(env: Environment, url: string, door: Exclude<Door, "websocket">, ear: Ear) {
    this.door = door;
    this.#env = env;
    this.#url = url;
    this.#ear = ear;
  }

  send(message: string, wait: number): boolean {
    this.close();
    const request = new AbortController();
    this.#request = request;
    // Subscriptions that change several times at once are one request.
    this.#env.setTimeout(() => void this.#run(message, wait, request), 0);
    return true;
  }

  close(): void {
    this.#request?.abort();
    this.#request = undefined;
  }

  async #run(body: string, wait: number, request: AbortController): Promise<void> {
    if (request !== this.#request) return;
    const { signal } = request;
    const streaming = this.door === "stream";
    let release: Release | undefined;
    if (streaming || wait > 0) {
      release = await this.#env.takePlace();
      if (release) signal.addEventListener("abort", release);
      if (signal.aborted) return release?.();
    }
    const type = streaming ? "text/event-stream" : "application/json";
    const url = new URL(this.#url);
    url.searchParams.set(streaming ? "protocol" : "wait", streaming ? PROTOCOL : String(release ? wait : 0));
    const end = (reason: string, opened: boolean, more: Partial<Ending> = {}) => {
      if (request === this.#request) this.#ear.end({ code: 1006, reason: `${this.door}: ${reason}`, opened, ...more });
    };
    if (streaming && !release) return end("other tabs hold too many connections", true);
    let opened = false;
    try {
      const response = await this.#env.fetch!(url.href, {
        method: "POST",
        headers: { Accept: type, "Content-Type": "application/json" },
        body,
        credentials: "include",
        cache: "no-store",
        signal,
      });
      if (request !== this.#request) return;
      const { status } = response;
      if (status !== 200 || !response.headers.get("Content-Type")?.startsWith(type) || !response.body) {
        request.abort();
        return end(`HTTP ${status}`, false, { status });
      }
      opened = true;
      if (streaming) return await this.#stream(response.body, request, end);
      const { frames } = (await response.json()) as { frames: unknown[] };
      for (const frame of frames) {
        if (request !== this.#request) return;
        this.#ear.frame(understand(frame, true));
      }
      if (request === this.#request) this.#ear.idle(0);
    } catch (error) {
      end(String(error), opened);
    } finally {
      release?.();
    }
  }

  async #stream(body: ReadableStream<Uint8Array>, request: AbortController, end: End): Promise<void> {
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    let retry = 0;
    let closing: Partial<Ending> | undefined;
    let [name, data]: [string, string[]] = ["", []];
    const fields = (line: string) => {
      const at = line.indexOf(":");
      const value = line.slice(at + 1).replace(/^ /, "");
      if (at > 0) {
        const field = line.slice(0, at);
        if (field === "event") name = value;
        else if (field === "data") data.push(value);
        else if (field === "retry") retry = Number(value) || 0;
      } else if (line === "") {
        const text = data.join("\n");
        if (name === "close") closing = JSON.parse(text) as Partial<Ending>;
        else if (name === "" && data.length > 0) this.#ear.frame(read(text, true));
        [name, data] = ["", []];
      }
    };
    for (;;) {
      const { done, value } = await reader.read();
      if (request !== this.#request) return;
      if (done) break;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      this.#ear.beat(rest !== "");
      for (const line of lines) {
        if (request !== this.#request) return; // a listener has changed the subscription
        fields(line.replace(/\r$/, ""));
      }
    }
    if (closing) end("", true, closing);
    else this.#ear.idle(retry);
  }
}

type End = (reason: string, opened: boolean, more?: Partial<Ending>) => void;
