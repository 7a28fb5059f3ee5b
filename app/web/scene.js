// The page of a scene: squares by level from /scenes/ID/, and over them what lies in the part that is looked at, asked for after each move.
(() => {
"use strict";

const REDRAW_MS = 3000, SETTLED_MS = 200, DEEPER = 3;
const TILE_COLOURS = {reviewed: "#2dd36f", chosen: "#ff9f1c", open: "#9aa5b1"};
const TILE_FILLS = {reviewed: 0.03, chosen: 0.15, open: 0.01};

const place = document.querySelector("#map"), said = document.querySelector("#said");
const score = document.querySelector("#score"), scoreShown = document.querySelector("#score-shown");
const facts = JSON.parse(place.dataset.facts);

const map = L.map(place, {crs: L.CRS.Simple, minZoom: 0, maxZoom: facts.levels + DEEPER, attributionControl: false, zoomSnap: 0.5});
const at = (x, y) => map.unproject([x, y], facts.levels);
const corners = ([x1, y1, x2, y2]) => L.latLngBounds(at(x1, y1), at(x2, y2));
const whole = corners([0, 0, facts.width, facts.height]);

const address = `/scenes/${facts.id}/{z}/{x}/{y}.png`;
const squares = L.tileLayer(address, {tileSize: 256, maxNativeZoom: facts.levels, maxZoom: map.getMaxZoom(), bounds: whole, noWrap: true});
const drawing = name => { map.createPane(name); return L.canvas({pane: name, padding: 0.2}); };
const grid = L.layerGroup(), believed = L.layerGroup(), boxes = L.layerGroup();
const onGrid = drawing("gridPane"), onBelieved = drawing("believedPane"), onBoxes = drawing("boxesPane");
map.getPane("gridPane").style.zIndex = 410;
for (const [name, index] of [["believedPane", 420], ["boxesPane", 430]]) Object.assign(map.getPane(name).style, {zIndex: index, pointerEvents: "none"});

const number = count => count.toLocaleString("en");
let waiting = "";
let asked = new AbortController(), timer = 0, again = 0;

const show = answer => {
    for (const layer of [grid, believed, boxes]) layer.clearLayers();
    for (const tile of answer.tiles) {
        const colour = TILE_COLOURS[tile.state];
        L.rectangle(corners(tile.at), {renderer: onGrid, color: colour, weight: 1, opacity: 0.8, fillOpacity: TILE_FILLS[tile.state]})
            .bindTooltip(`Tile ${tile.id} · ${tile.split} · ${tile.state}`, {sticky: true})
            .on("click", () => window.location.assign(`/review?tile=${tile.id}`))
            .addTo(grid);
    }
    const box = (renderer, sides, label, dashArray) =>
        L.rectangle(corners(sides), {renderer, color: facts.colours[label] ?? "#ffffff", weight: 2, fill: false, dashArray, interactive: false});
    for (const [x1, y1, x2, y2, label] of answer.boxes) box(onBoxes, [x1, y1, x2, y2], label).addTo(boxes);
    for (const [x1, y1, x2, y2, label] of answer.believed ?? []) box(onBelieved, [x1, y1, x2, y2], label, "5 4").addTo(believed);
    const words = [answer.boxes.length < answer.boxes_total
        ? `the ${number(answer.boxes.length)} largest of ${number(answer.boxes_total)} boxes` : `${number(answer.boxes_total)} boxes`];
    if (answer.tiles_total && !answer.tiles.length) words.push(`${number(answer.tiles_total)} tiles: come nearer to see them`);
    else words.push(`${number(answer.tiles_total)} tiles`);
    words.push(answer.believed ? `${number(answer.believed.length)} detections` : "detections when you come nearer");
    if (answer.overview !== null) words.push(`a smaller copy of the scene is being made: ${Math.round(answer.overview * 100)} %`);
    said.textContent = [waiting, ...words].filter(Boolean).join(" · ");
    place.dataset.shown = String(answer.boxes.length);
};

const look = async () => {
    asked.abort();
    asked = new AbortController();
    const view = map.getBounds(), one = map.project(view.getNorthWest(), facts.levels), other = map.project(view.getSouthEast(), facts.levels);
    const asking = new URLSearchParams({x1: one.x, y1: one.y, x2: other.x, y2: other.y, score: score.value});
    try {
        const answer = await fetch(`/scenes/${facts.id}/boxes.json?${asking}`, {signal: asked.signal, redirect: "error"});
        if (!answer.ok) throw new Error((await answer.text()).trim());
        show(await answer.json());
    } catch (failed) {
        if (failed.name !== "AbortError") said.textContent = `The boxes did not come: ${failed.message}`;
    }
};
const soon = () => { clearTimeout(timer); timer = setTimeout(look, SETTLED_MS); };

// A square that is missing is being made, which its answer says, or cannot be read any more.
squares.on("tileerror", async ({tile}) => {
    if (again) return;
    again = setTimeout(() => { again = 0; }, REDRAW_MS);
    const answer = await fetch(tile.src).catch(() => ({status: 503}));
    waiting = answer.status === 503 ? "" : answer.ok ? "" : "The scene cannot be read any more";
    if (answer.status === 503 || answer.ok) setTimeout(() => { squares.redraw(); look(); }, REDRAW_MS);
    soon();
});

score.addEventListener("input", () => { scoreShown.textContent = Number(score.value).toFixed(2); soon(); });
scoreShown.textContent = Number(score.value).toFixed(2);
map.on("moveend", soon);
for (const layer of [squares, grid, believed, boxes]) layer.addTo(map);
L.control.layers(null, {"Boxes": boxes, "Detections": believed, "Tiles": grid}, {collapsed: false}).addTo(map);
map.setMaxBounds(whole.pad(0.5));
map.fitBounds(facts.focus ? corners(facts.focus).pad(0.3) : whole);
})();
