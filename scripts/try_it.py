"""Learn a concept in the real ComfyUI and make a video with it. One command, from a fresh clone.

    python scripts/try_it.py                                   the demo's fox, which the demo base has never seen
    python scripts/try_it.py --images demo/pictures/wolf --name wolf --class dog
    python scripts/try_it.py --ui                              then keep ComfyUI open, on the workflow that was run

The demo model only knows emoji on plain backgrounds, like those in demo/pictures. An interrupted run goes on when the
same command is given again.

Standard library only: this part sets up the environment and hands over to `trial.py` inside it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from environment import ensure_environment
from installing import REPOSITORY, SetupError
from processes import run_and_wait

sys.path.append(str(REPOSITORY))

from ccvd_core.concepts.kinds import KINDS


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of pictures (subject, style) or clips (motion), as the demo model can draw them",
    )
    add("--name", help="the concept's name: you write <name> in prompts")
    add("--class", dest="class_words", metavar="WORDS", help="what it is, in plain words: dog")
    add("--kind", choices=tuple(KINDS), default="subject")
    add(
        "--captions",
        type=Path,
        metavar="FILE",
        help="one caption per line, in the order of the file names (default: a .txt beside each)",
    )
    add("--prompt", help="the video to make; name the concept as <name>")
    add("--steps", type=int, metavar="N", help="learning steps (default: what the workflow says)")
    add("--out", type=Path, metavar="DIR", default=REPOSITORY / "output", help="default: output/")
    add("--ui", action="store_true", help="leave ComfyUI running afterwards and print the address of the workflow")
    add("--port", type=int, help="ComfyUI's port on this machine (default: a free one)")
    arguments = parser.parse_args()
    own = {"--images": arguments.images, "--name": arguments.name, "--class": arguments.class_words}
    if any(own.values()) and not all(own.values()):
        missing = ", ".join(flag for flag, value in own.items() if not value)
        parser.error(f"your own concept needs --images, --name and --class together; missing: {missing}")
    if arguments.captions and not arguments.images:
        parser.error("--captions describes the files of --images, which is missing")
    if arguments.steps is not None and arguments.steps < 1:
        parser.error("--steps must be 1 or more")
    return arguments


def main() -> int:
    parse_arguments()  # mistakes and --help come before the set-up
    try:
        environment = ensure_environment()
        return run_and_wait([environment.python, Path(__file__).with_name("trial.py"), *sys.argv[1:]])
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
