// The keyboard of a page: which key does what stands in the page itself (data-keys, app/pages/keyboard.py). A key presses the button
// named (#id), or does what a script of the page has put under that name into tilehawkActs. Whoever types a text is left alone.
(() => {
"use strict";

const acts = window.tilehawkActs ??= {};
const REPEATING = new Set(["undo", "redo"]);
const SLIDER = new Set(["arrowleft", "arrowright", "arrowup", "arrowdown", "home", "end", "pageup", "pagedown"]);
const NO_TEXT = new Set(["button", "checkbox", "radio", "submit", "reset", "range", "file", "color"]);

const nameOf = event => {
    const key = event.key.toLowerCase();
    const held = event.ctrlKey || event.metaKey ? "ctrl+" : "";
    return held + (event.shiftKey && key.length > 0 && key !== "?" ? "shift+" : "") + (key === " " ? "space" : key);
};

const typing = target => target instanceof Element && (target.isContentEditable || target.matches("textarea, select")
    || (target.matches("input") && !NO_TEXT.has(target.type)));

// What the browser itself does with a key on what has the focus: a button is pressed, a slider moves.
const taken = (target, name) => target instanceof Element && (
    (["enter", "space"].includes(name) && target.closest("button, a, summary, input, [role=button], [role=option]"))
    || (SLIDER.has(name) && target.matches("input[type=range], input[type=radio]")));

let read = null, table = {};
const bindings = () => {
    const place = document.querySelector("[data-keys]");
    if (place && place.dataset.keys !== read) {
        read = place.dataset.keys;
        table = JSON.parse(read);
    }
    return place ? table : {};
};

const help = () => document.querySelector("dialog.keys");
const showHelp = () => help()?.open ? help().close() : help()?.showModal();
acts.help = showHelp;

const act = name => {
    if (!name.startsWith("#")) return acts[name]?.();
    const button = document.querySelector(name);
    if (button && !button.disabled) button.click();
};

window.addEventListener("keydown", event => {
    const name = nameOf(event);
    if (event.isComposing || event.altKey || typing(event.target) || taken(event.target, name)) return;
    if (document.querySelector("dialog[open]")) {
        if (name === "?" && help()?.open) help().close();
        return;
    }
    const wanted = bindings()[name];
    if (!wanted || document.querySelector("#model-box-edit")) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat || REPEATING.has(wanted)) act(wanted);
}, true);

window.addEventListener("click", event => {
    const button = event.target instanceof Element && event.target.closest("button");
    if (!button) return;
    if (button.matches(".keys-help")) showHelp();
    if (event.detail > 0 && document.querySelector("[data-keys]")) button.blur();  // else the next space would press it once more
});
})();
