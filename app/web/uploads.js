// <tilehawk-upload purpose="imagery" words="…" largest="53687091200">: a file goes up piece by piece, and goes on after a lost connection,
// a reload of the page or a restart of the app. The server says where the next piece belongs; see app/routes/uploads.py.
(() => {
"use strict";

const SMALLEST_PIECE = 1 << 18, LARGEST_PIECE = 8 << 20, PIECE_SECONDS = 2;
const PAUSES = [1, 2, 4, 8, 15, 30];
const COME_AGAIN = new Set([408, 422, 425, 429, 500, 502, 503, 504]);
const SAMPLES = 16, SAMPLE_BYTES = 1 << 16;
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

const CRC_TABLE = Uint32Array.from({length: 256}, (_, byte) => {
    for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
    return byte;
});
const crc32 = bytes => {
    let crc = 0xffffffff;
    for (let at = 0; at < bytes.length; at++) crc = CRC_TABLE[(crc ^ bytes[at]) & 255] ^ (crc >>> 8);
    return ((crc ^ 0xffffffff) >>> 0).toString(16).padStart(8, "0");
};

const bytesOf = async blob => new Uint8Array(await blob.arrayBuffer());

// What tells a file from another one of its name and size: when it was changed, and what it holds at its ends and in between.
const fingerprintOf = async file => {
    const last = Math.max(0, file.size - SAMPLE_BYTES);
    let samples = "";
    for (let each = 0; each < SAMPLES; each++) {
        const start = Math.floor(last * each / (SAMPLES - 1));
        samples += crc32(await bytesOf(file.slice(start, start + SAMPLE_BYTES)));
    }
    const text = new TextEncoder();
    return crc32(text.encode(samples)) + crc32(text.encode(String(file.lastModified))) + crc32(text.encode(samples + file.lastModified));
};

const size = bytes => {
    let unit = 0;
    while (bytes >= 1024 && unit < UNITS.length - 1) { bytes /= 1024; unit++; }
    return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${UNITS[unit]}`;
};
const duration = seconds =>
    seconds < 90 ? `${Math.ceil(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;

class Refused extends Error {
    constructor(status, said) {
        super([said.found, said.expected && `expected ${said.expected}`, said.remedy].filter(Boolean).join(". "));
        this.status = status;
        this.offset = said.offset;
    }
}

const refusalOf = async answer => {
    const text = await answer.text();
    try { return new Refused(answer.status, JSON.parse(text)); } catch { return new Refused(answer.status, {found: text.trim()}); }
};

const ask = async (method, address, headers = {}, body = undefined, signal = undefined) => {
    const answer = await fetch(address, {method, headers, body, signal, cache: "no-store", redirect: "error"});
    if (!answer.ok) throw await refusalOf(answer);
    return answer.status === 204 ? null : answer.json();
};

const made = (parent, name, options = {}) => parent.appendChild(Object.assign(document.createElement(name), options));

class Upload extends HTMLElement {
    connectedCallback() {
        if (this.field) return;
        this.drop = made(this, "label", {className: "upload-drop"});
        made(this.drop, "span", {textContent: this.getAttribute("words")});
        this.field = made(this.drop, "input", {type: "file"});
        this.row = made(this, "div", {className: "upload-row", hidden: true});
        this.title_ = made(this.row, "strong");
        this.bar = made(this.row, "progress", {max: 1, value: 0});
        this.said = made(this.row, "span", {className: "upload-said"});
        this.said.setAttribute("role", "status");
        this.pause = made(this.row, "button", {type: "button", textContent: "Pause"});
        this.forget = made(this.row, "button", {type: "button", textContent: "Remove"});
        this.others = made(this, "div", {className: "upload-others", hidden: true});
        this.field.addEventListener("change", () => { if (this.field.files[0]) this.choose(this.field.files[0]); this.field.value = ""; });
        this.drop.addEventListener("dragover", event => { event.preventDefault(); this.drop.classList.add("over"); });
        this.drop.addEventListener("dragleave", () => this.drop.classList.remove("over"));
        this.drop.addEventListener("drop", event => {
            event.preventDefault();
            this.drop.classList.remove("over");
            if (event.dataTransfer.files[0]) this.choose(event.dataTransfer.files[0]);
        });
        this.pause.addEventListener("click", () => this.state === "sending" ? this.stop() : this.send());
        this.forget.addEventListener("click", () => this.remove_());
        window.addEventListener("beforeunload", event => { if (this.state === "sending") event.preventDefault(); });
        this.look();
    }

    // The id of what is here or on its way, for the button that takes it in; empty where there is nothing.
    get upload() { return this.known?.id ?? ""; }

    get state() { return this.dataset.state; }

    // Show what the server has: nothing, a part, or all of a file; and what else is there, which takes up room until it is removed.
    async look() {
        try {
            const every = await ask("GET", "/uploads");
            const mine = every.filter(each => each.purpose === this.getAttribute("purpose"));
            if (!this.file) this.known = this.known ? mine.find(each => each.id === this.known.id) : mine.at(-1);
            this.list(mine.filter(each => each.id !== this.known?.id));
            if (this.file) return;
            const found = this.known;
            if (!found) this.show("empty");
            else if (found.offset === found.size) this.show("complete");
            else this.show("waiting", "Choose the same file again: it goes on there.");
        } catch (failed) {
            if (!this.file) this.show("empty");
        }
    }

    // The visitor's other uploads, each with a way to remove it.
    list(others) {
        this.others.replaceChildren();
        this.others.hidden = !others.length;
        for (const each of others) {
            const row = made(this.others, "div", {className: "upload-row"});
            row.style.marginBottom = ".5rem";
            made(row, "strong", {textContent: `${each.name} · ${size(each.size)}`});
            made(row, "progress", {max: 1, value: each.offset / each.size});
            const forget = made(row, "button", {type: "button", textContent: "Remove"});
            forget.setAttribute("aria-label", `Remove ${each.name}`);
            const words = each.offset === each.size ? "All of it is here" : `${Math.floor(100 * each.offset / each.size)} % is here`;
            const said = made(row, "span", {className: "upload-said", textContent: `Another upload of yours. ${words}.`});
            forget.addEventListener("click", async () => {
                try {
                    await ask("DELETE", `/uploads/${each.id}`);
                } catch (failed) {
                    if (failed.status !== 404) { said.textContent = failed.message; return; }
                }
                this.look();
            });
        }
    }

    // After a button took the file: it is gone from the server's list, or the button was refused and it is still there.
    async taken() {
        if (this.state === "complete") this.file = undefined;
        if (this.state !== "sending") await this.look();
    }

    async choose(file) {
        this.stop();
        await this.sending;
        this.file = file;
        this.known = undefined;
        if (!file.size || file.size > Number(this.getAttribute("largest"))) this.look();
        if (!file.size) return this.show("stopped", "This file is empty. Choose another one.");
        if (file.size > Number(this.getAttribute("largest")))
            return this.show("stopped", `More than ${size(Number(this.getAttribute("largest")))}: name it by its path on the server.`);
        this.send();
    }

    stop() {
        this.abort?.abort();
        if (this.state === "sending") this.show("stopped", "Paused.");
    }

    send() {
        if (!this.file) return;
        this.abort = new AbortController();
        this.show("sending", "Looking at the file");
        this.sending = this.sendAll(this.file, this.abort.signal).catch(failed => {
            if (failed.name === "AbortError") return;
            const unreadable = failed instanceof DOMException;
            this.show("stopped", unreadable ? "The file cannot be read any more: choose it again." : failed.message);
        });
    }

    async sendAll(file, signal) {
        const announced = {name: file.name, size: file.size, fingerprint: await fingerprintOf(file), purpose: this.getAttribute("purpose")};
        const begin = () => this.patiently(signal,
            () => ask("POST", "/uploads", {"Content-Type": "application/json"}, JSON.stringify(announced), signal));
        try { this.known = await begin(); } finally { this.look(); }
        const begun = performance.now(), before = this.known.offset;
        let piece = 1 << 20;
        while (this.known.offset < file.size) {
            signal.throwIfAborted();
            const started = performance.now(), from = this.known.offset;
            try {
                this.known = await this.patiently(signal, () => this.sendPiece(file, piece, signal));
            } catch (failed) {
                if (failed.status === 409 && Number.isInteger(failed.offset)) this.known = {...this.known, offset: failed.offset};
                else if (failed.status === 404) this.known = await begin();
                else throw failed;
            }
            signal.throwIfAborted();
            const seconds = (performance.now() - started) / 1000;
            piece = Math.min(LARGEST_PIECE, Math.max(SMALLEST_PIECE, seconds < PIECE_SECONDS ? piece * 2 : piece >> 1));
            this.report(this.known.offset - before, this.known.offset - from, seconds, (performance.now() - begun) / 1000);
        }
        this.show("complete");
    }

    async sendPiece(file, length, signal) {
        const offset = this.known.offset;
        const bytes = await bytesOf(file.slice(offset, offset + length));
        const headers = {"Upload-Offset": String(offset), "Upload-Checksum": `crc32 ${crc32(bytes)}`, "Content-Type": "application/octet-stream"};
        return ask("PATCH", `/uploads/${this.known.id}`, headers, bytes, signal);
    }

    // Try again where that may help, with growing pauses; a lost connection is waited for as long as it takes.
    async patiently(signal, action) {
        for (let tries = 0; ; tries++) {
            try {
                return await action();
            } catch (failed) {
                const lost = failed instanceof TypeError;
                if (!lost && !COME_AGAIN.has(failed.status)) throw failed;
                if (failed.status === 429 && !this.known) throw failed;
                const seconds = PAUSES[Math.min(tries, PAUSES.length - 1)];
                this.show("sending", `${lost ? "The connection is lost" : failed.message}; tries again in ${seconds} s`);
                await new Promise((resolve, reject) => {
                    const timer = setTimeout(resolve, seconds * 1000);
                    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, {once: true});
                });
            }
        }
    }

    report(sent, latest, seconds, elapsed) {
        const rate = elapsed > 20 && seconds ? 0.5 * sent / elapsed + 0.5 * latest / seconds : sent / elapsed;
        const left = (this.known.size - this.known.offset) / Math.max(rate, 1);
        this.show("sending", `${(rate / 1e6).toFixed(1)} MB/s · ${duration(left)} left`);
    }

    async remove_() {
        this.stop();
        await this.sending;
        try {
            if (this.known) await ask("DELETE", `/uploads/${this.known.id}`);
        } catch (failed) {
            if (failed.status !== 404) return this.show("stopped", failed.message);
        }
        this.file = this.known = undefined;
        this.show("empty");
        await this.look();
    }

    show(state, words = "") {
        this.dataset.state = state;
        const share = this.known ? this.known.offset / this.known.size : 0;
        this.row.hidden = state === "empty";
        this.drop.hidden = state === "sending" || state === "complete";
        this.title_.textContent = `${this.known?.name ?? this.file?.name ?? ""} · ${size(this.known?.size ?? this.file?.size ?? 0)}`;
        this.bar.value = share;
        this.said.textContent = state === "complete" ? "All of it is here." : `${Math.floor(share * 100)} % · ${words}`;
        this.pause.hidden = state === "complete" || !this.file;
        this.pause.textContent = state === "sending" ? "Pause" : "Go on";
    }
}

customElements.define("tilehawk-upload", Upload);
})();
