import { PROTOCOL, read, understand } from "./protocol.js";
const OPEN = 1; // WebSocket.OPEN, where there may be no such global
/** A WebSocket. */
export class SocketLine {
    door = "websocket";
    #socket;
    #heard = true;
    /** Throws where the page's policy forbids the connection. */
    constructor(env, url, offer, ear) {
        const socket = new env.WebSocket(url.replace(/^http/, "ws"), offer ? [PROTOCOL] : []);
        this.#socket = socket;
        let opened = false;
        // A socket that was given up says nothing any more, whatever comes of it.
        socket.onopen = () => (opened = true);
        socket.onmessage = ({ data }) => {
            opened = true;
            if (this.#heard)
                ear.frame(read(String(data), this.typed));
        };
        // The package ws throws errors that no listener takes; the close that follows says the same.
        socket.onerror = () => { };
        socket.onclose = ({ code, reason }) => {
            if (this.#heard)
                ear.end({ code, reason, opened });
        };
    }
    get typed() {
        return this.#socket.protocol === PROTOCOL;
    }
    send(message) {
        if (this.#socket.readyState !== OPEN)
            return false;
        this.#socket.send(message);
        return true;
    }
    close(code) {
        this.#heard = false;
        this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
        this.#socket.close(code);
    }
}
/** Requests, one at a time: an event stream, or polls. */
export class RequestLine {
    typed = true;
    door;
    #env;
    #url;
    #ear;
    #request;
    constructor(env, url, door, ear) {
        this.door = door;
        this.#env = env;
        this.#url = url;
        this.#ear = ear;
    }
    send(message, wait) {
        this.close();
        const request = new AbortController();
        this.#request = request;
        // Subscriptions that change several times at once are one request.
        this.#env.setTimeout(() => void this.#run(message, wait, request), 0);
        return true;
    }
    close() {
        this.#request?.abort();
        this.#request = undefined;
    }
    async #run(body, wait, request) {
        if (request !== this.#request)
            return;
        const { signal } = request;
        const streaming = this.door === "stream";
        let release;
        if (streaming || wait > 0) {
            release = await this.#env.takePlace();
            if (release)
                signal.addEventListener("abort", release);
            if (signal.aborted)
                return release?.();
        }
        const type = streaming ? "text/event-stream" : "application/json";
        const url = new URL(this.#url);
        url.searchParams.set(streaming ? "protocol" : "wait", streaming ? PROTOCOL : String(release ? wait : 0));
        const end = (reason, opened, more = {}) => {
            if (request === this.#request)
                this.#ear.end({ code: 1006, reason: `${this.door}: ${reason}`, opened, ...more });
        };
        if (streaming && !release)
            return end("other tabs hold too many connections", true);
        let opened = false;
        try {
            const response = await this.#env.fetch(url.href, {
                method: "POST",
                headers: { Accept: type, "Content-Type": "application/json" },
                body,
                credentials: "include",
                cache: "no-store",
                signal,
            });
            if (request !== this.#request)
                return;
            const { status } = response;
            if (status !== 200 || !response.headers.get("Content-Type")?.startsWith(type) || !response.body) {
                request.abort();
                return end(`HTTP ${status}`, false, { status });
            }
            opened = true;
            if (streaming)
                return await this.#stream(response.body, request, end);
            const { frames } = (await response.json());
            for (const frame of frames) {
                if (request !== this.#request)
                    return;
                this.#ear.frame(understand(frame, true));
            }
            if (request === this.#request)
                this.#ear.idle(0);
        }
        catch (error) {
            end(String(error), opened);
        }
        finally {
            release?.();
        }
    }
    async #stream(body, request, end) {
        const reader = body.getReader();
        const decoder = new TextDecoder();
        let rest = "";
        let retry = 0;
        let closing;
        let [name, data] = ["", []];
        const fields = (line) => {
            const at = line.indexOf(":");
            const value = line.slice(at + 1).replace(/^ /, "");
            if (at > 0) {
                const field = line.slice(0, at);
                if (field === "event")
                    name = value;
                else if (field === "data")
                    data.push(value);
                else if (field === "retry")
                    retry = Number(value) || 0;
            }
            else if (line === "") {
                const text = data.join("\n");
                if (name === "close")
                    closing = JSON.parse(text);
                else if (name === "" && data.length > 0)
                    this.#ear.frame(read(text, true));
                [name, data] = ["", []];
            }
        };
        for (;;) {
            const { done, value } = await reader.read();
            if (request !== this.#request)
                return;
            if (done)
                break;
            const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
            rest = lines.pop() ?? "";
            this.#ear.beat(rest !== "");
            for (const line of lines) {
                if (request !== this.#request)
                    return; // a listener has changed the subscription
                fields(line.replace(/\r$/, ""));
            }
        }
        if (closing)
            end("", true, closing);
        else
            this.#ear.idle(retry);
    }
}
