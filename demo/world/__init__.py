"""The world of the demo base: many members per class, many styles, motions, speeds and backgrounds.

`subjects`, `motions`, `styles` and `backgrounds` are tables; `scenes` puts them together and draws. What is *held
out* never appears in the training of the base (text encoder and video model), and held-out sprites in no training at
all: they are what an artist teaches it later.
"""
