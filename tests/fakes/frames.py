"""Scenes and pictures as formats meet them, without a workspace."""

from __future__ import annotations

from engine.catalog.lookup import SceneNames
from engine.records import SceneFrame


class Scenes:
    """Scenes by name, with the catalog's own rule for names; ids count from 1."""

    def __init__(self, *frames):
        self.frames = {number: SceneFrame(number, *frame) for number, frame in enumerate(frames, start=1)}
        self.names = SceneNames((frame.name, frame.id) for frame in self.frames.values())

    def __iter__(self):
        return iter(self.frames.values())

    def find(self, image):
        return [self.frames[number] for number in self.names.find(image)]


class Pictures:
    """Pictures that hold nothing but the name of their image."""

    def place(self, image, stem):
        path = stem.with_name(f"{stem.name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(image.image)
        return path


def boxes_of(labels):
    """What a label file says, by image: class name and corners of every box, rounded to a millionth of a pixel."""
    return {
        image.image: [
            (labels.label_set.names[label], *(round(side, 6) for side in xyxy))
            for xyxy, label in zip(image.boxes_scene.xyxy.tolist(), image.boxes_scene.labels.tolist(), strict=True)
        ]
        for image in labels.images
    }
