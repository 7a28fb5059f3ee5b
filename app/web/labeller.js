// What the page Review adds to the drawing surface, which is the component gradio-image-annotation: undo and redo, the class of a new or
// selected box by its digit, suggestions accepted, boxes hidden, and drafts, so that nothing drawn is lost before it is saved.
// The component is used from outside alone: its value is read and set by hidden buttons of the page, its own buttons are pressed.
(() => {
"use strict";

const acts = window.tilehawkActs ??= {};
const SIDES = ["xmin", "ymin", "xmax", "ymax"];
const SAME = 1e-3;
const DRAFT = "tilehawk-draft:";
const MOST_DRAFTS = 100;

// ---- boxes: in pixels of the picture, as the component would give them at its full size

const boxesOf = value => (value?.boxes ?? []).map(box => {
    const scale = box.scaleFactor || 1;
    const color = Array.isArray(box.color) ? `rgb(${box.color.join(", ")})` : box.color;
    return {...Object.fromEntries(SIDES.map(side => [side, box[side] / scale])), label: box.label ?? "", color};
});
const samePlace = (one, other) => SIDES.every(side => Math.abs(one[side] - other[side]) < SAME);
const sameBox = (one, other) => samePlace(one, other) && one.label === other.label;
const same = (some, others, equal = sameBox) => some.length === others.length && some.every((box, at) => equal(box, others[at]));
const alike = (some, others) => same(some, others, (one, other) => sameBox(one, other) && one.color === other.color);

class Steps {
    constructor(first) { this.states = [first]; this.at = 0; this.saved = first; }
    get now() { return this.states[this.at]; }
    get dirty() { return !same(this.now, this.saved); }
    add(state) { this.states.splice(++this.at, Infinity, state); }
    move(step) {
        const to = this.at + step;
        if (to < 0 || to >= this.states.length) return null;
        this.at = to;
        return this.now;
    }
}

// ---- the page

const find = selector => document.querySelector(selector);
const canvas = () => find("#drawing canvas");
const tool = name => find(`#drawing button[aria-label="${name}"]`);
const say = words => { const place = find("#said"); if (place) place.textContent = words; };
const classes = () => [...document.querySelectorAll("#classes [data-class]")].map(each => each.dataset);
const colourOf = name => {
    const hex = classes().find(each => each.class === name)?.colour;
    return hex ? `rgb(${[1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16)).join(", ")})` : null;
};
const unsure = box => box.color === facts?.unsure;
const chosenClass = () => find("#new-class input")?.value ?? "";

let steps = new Steps([]), facts = null, current = -1;
let acting = false, answering = true, pressed = false, wantedClass = "";
const pending = [];

// ---- the component's value, read and set through a hidden button

const edit = make => new Promise(done => {
    pending.push({make, done});
    find("#surface-apply").click();
});
const read = () => edit(() => undefined);
const set = boxes => edit(() => boxes);
const apply = value => {
    const {make, done} = pending.shift() ?? {};
    if (!make || !value) { done?.([]); return undefined; }
    const boxes = boxesOf(value), next = make(boxes);
    setTimeout(() => done(next ?? boxes), 0);
    return next === undefined ? undefined : {...value, boxes: next.map(box => ({...box}))};
};

// The component keeps the number of its selected box over every change of its value, and shows it no more. Pressing its own button takes
// that box out and forgets the number; then all boxes are put back.
const put = async boxes => {
    await set(boxes);
    tool("Remove box")?.click();
    if ((await read()).length !== boxes.length) await set(boxes);
};

// Takes the selected box out; gives all boxes as they were, and its number, -1 where none was selected.
const takeSelected = async () => {
    const before = await read();
    tool("Remove box")?.click();
    const after = await read();
    if (after.length === before.length) return {before, number: current < before.length ? current : -1, taken: false};
    const number = after.findIndex((box, at) => !sameBox(box, before[at]));
    return {before, number: number < 0 ? before.length - 1 : number, taken: true};
};

const alone = async work => {
    if (acting || answering || pressed || !canvas()) return;
    acting = true;
    try { await work(); } finally { acting = false; }
};

// ---- drafts: what is drawn and not saved stays in this browser

const draftKey = of => `${DRAFT}${of.by}:${of.key}`;
const keepDraft = () => {
    if (!facts) return;
    try {
        if (!steps.dirty) { localStorage.removeItem(draftKey(facts)); return; }
        const boxes = steps.now.map(box => ({...box, ...Object.fromEntries(SIDES.map(side => [side, box[side] / facts.zoom]))}));
        localStorage.setItem(draftKey(facts), JSON.stringify({version: facts.version, at: Date.now(), boxes}));
        const kept = Object.keys(localStorage).filter(name => name.startsWith(DRAFT));
        if (kept.length > MOST_DRAFTS) {
            const age = name => JSON.parse(localStorage.getItem(name)).at;
            kept.sort((one, other) => age(one) - age(other)).slice(0, kept.length - MOST_DRAFTS).forEach(name => localStorage.removeItem(name));
        }
        unkept = false;
    } catch { unkept = steps.dirty; }
};
let unkept = false;
window.addEventListener("beforeunload", event => { if (unkept) event.preventDefault(); });
const draftOf = of => {
    try {
        const draft = JSON.parse(localStorage.getItem(draftKey(of)));
        const grown = box => ({...box, ...Object.fromEntries(SIDES.map(side => [side, box[side] * of.zoom]))});
        return draft && {version: draft.version, boxes: draft.boxes.map(grown)};
    } catch { return null; }
};

const tell = () => find("#unsaved")?.toggleAttribute("hidden", !steps.dirty);
const commit = (boxes, words = "") => {
    if (!alike(boxes, steps.now)) steps.add(boxes);
    keepDraft();
    tell();
    say(words);
};

// ---- what the visitor did on the surface

const noted = async () => {
    const boxes = await read(), before = steps.now;
    if (alike(boxes, before)) return;
    const drawn = boxes.length === before.length + 1 && same(boxes.slice(1), before);
    const name = chosenClass(), color = colourOf(name);
    if (drawn && color && (boxes[0].label !== name || boxes[0].color !== color)) {
        boxes[0] = {...boxes[0], label: name, color};
        await put(boxes);
        current = 0;
    }
    commit(boxes);
};
const changed = () => { if (!acting && !answering && !pressed) alone(noted); };

const onSurface = event => event.target instanceof Element && event.target.closest("#drawing canvas");
window.addEventListener("pointerdown", event => { if (onSurface(event)) { pressed = true; current = -1; uncover(); } }, true);
for (const kind of ["pointerup", "pointercancel"])
    window.addEventListener(kind, () => { if (pressed) setTimeout(() => { pressed = false; changed(); }, 0); });

// ---- answers of the server

const sent = () => {
    answering = true;
    find("#drawing")?.classList.add("waits");
};
const answered = () => {
    answering = false;
    find("#drawing")?.classList.remove("waits");
};
const opened = async (value, said) => {
    if (said?.saved) localStorage.removeItem(`${DRAFT}${said.by}:${said.saved}`);
    const stamp = facts?.stamp, unsaved = steps.dirty && facts && said && facts.key !== said.key && facts.key !== said.saved ? facts : null;
    if (!said || said.stamp === stamp) { answered(); return; }
    facts = said;
    if (!said.fresh) {
        steps.saved = steps.now;
        tell();
        answered();
        return;
    }
    acting = true;
    try {
        steps = new Steps(boxesOf(value));
        current = -1;
        uncover();
        await showDraft(unsaved);
    } finally { acting = false; }
    answered();
    tell();
    const address = new URL(window.location);
    address.searchParams.set("tile", facts.tile);
    window.history.replaceState(window.history.state, "", address);
    if (!document.activeElement?.matches("input, textarea")) find("#drawing .annotator-container")?.focus({preventScroll: true});
};
const showDraft = async left => {
    const draft = draftOf(facts);
    if (draft && !same(draft.boxes, steps.now)) steps.add(draft.boxes);
    if (draft && draft.version !== facts.version) steps.at = 0;
    await put(steps.now);
    if (steps.at > 0) say("What you drew here and did not save is back. Z takes it away.");
    else if (steps.states.length > 1) say("This tile was changed since you drew here without saving. Y shows what you drew.");
    else say(left ? `Tile ${left.tile} has changes that are not saved. They are kept in this browser and come back with the tile.` : "");
};

// ---- acts

const step = (by, none) => alone(async () => {
    const state = steps.move(by);
    if (!state) { say(none); return; }
    current = -1;
    await put(state);
    commit(state);
});
acts.undo = () => step(-1, "Nothing to undo on this tile.");
acts.redo = () => step(1, "Nothing to redo on this tile.");

acts.remove = () => alone(async () => {
    const {before, number, taken} = await takeSelected();
    if (number < 0) { say("Select a box first: D, then a click on it."); return; }
    const left = before.filter((_, at) => at !== number);
    if (!taken) await put(left);
    current = -1;
    commit(left, "Box deleted. Z brings it back.");
});

// Changes the selected box, or the one that choose(boxes, number) names; false where that is none.
const changeBox = async (change, choose = (_, number) => number) => {
    const {before, number, taken} = await takeSelected();
    const of = choose(before, number);
    if (of < 0) {
        if (taken) await put(before);
        return false;
    }
    const next = before.map((box, at) => at === of ? change(box) : box);
    await put(next);
    current = of;
    commit(next);
    return true;
};

const classKey = digit => alone(async () => {
    const wanted = classes()[digit - 1];
    if (!wanted) { say(`There is no class ${digit}.`); return; }
    const relabelled = await changeBox(box => ({...box, label: wanted.class, color: colourOf(wanted.class)}));
    if (!relabelled) {
        wantedClass = wanted.class;
        find("#surface-class").click();
    }
    say(relabelled ? `The box is a ${wanted.class}.` : `New boxes are ${wanted.class}.`);
});
for (let digit = 1; digit <= 9; digit++) acts[`class-${digit}`] = () => classKey(digit);

const accepted = box => unsure(box) ? {...box, color: colourOf(box.label) ?? box.color} : box;
acts.accept = () => alone(async () => {
    const next = (boxes, number) => boxes[number] && unsure(boxes[number]) ? number : boxes.findIndex(box => unsure(box));
    if (!await changeBox(accepted, next)) { say("No suggestion is left."); return; }
    const left = steps.now.filter(box => unsure(box)).length;
    current = -1;
    say(`Accepted; ${left} ${left === 1 ? "suggestion is" : "suggestions are"} left.`);
});
const all = (make, words) => alone(async () => {
    const boxes = await read(), next = make(boxes);
    const count = boxes.filter(box => unsure(box)).length;
    if (!count) { say("No suggestion is left."); return; }
    await put(next);
    current = -1;
    commit(next, `${count} ${count === 1 ? "suggestion" : "suggestions"} ${words}`);
});
acts.acceptAll = () => all(boxes => boxes.map(accepted), "accepted.");
acts.dropAll = () => all(boxes => boxes.filter(box => !unsure(box)), "dropped. Z brings them back.");

const uncover = () => { find("#drawing .cover")?.remove(); canvas()?.removeAttribute("aria-hidden"); };
acts.hide = async () => {
    if (find("#drawing .cover")) { uncover(); return; }
    if (!canvas() || answering) return;
    const source = await new Promise(done => { lookedAt = done; find("#surface-look").click(); });
    if (!source) return;
    find("#drawing .annotator-container").dispatchEvent(new KeyboardEvent("keydown", {key: " ", bubbles: false}));
    const cover = new Image();
    cover.className = "cover";
    cover.alt = "the tile without its boxes";
    cover.src = source;
    canvas().parentElement.append(cover);
    say("Boxes are hidden. H shows them.");
};
let lookedAt = null;
const look = value => { lookedAt?.(value?.image?.url ?? null); lookedAt = null; };

window.tilehawkLabeller = {apply, changed, sent, answered, opened, look, className: () => wantedClass, Steps};
})();
