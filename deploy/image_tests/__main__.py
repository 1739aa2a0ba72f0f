"""The command line of the test. deploy/test-images.sh runs it."""

import argparse
import atexit
import signal
import sys
import traceback
from types import FrameType

from .report import Failed, Progress
from .run import INTERRUPTIONS, Run
from .scenario import Scenario


def interrupt(number: int, _: FrameType | None) -> None:
    raise Failed(f"interrupted by {signal.Signals(number).name}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="image_tests", description="Runs the system from its images.")
    parser.add_argument("base", help="the base image of the images")
    arguments = parser.parse_args()

    run, progress = Run(), Progress()
    scenario = Scenario(run, progress, arguments.base)
    for number in INTERRUPTIONS:
        signal.signal(number, interrupt)
    atexit.register(run.clean_up)
    try:
        scenario.play()
    except Exception as error:
        if not isinstance(error, Failed):
            traceback.print_exc()
        scenario.print_logs()
        print(f"\nFAILED after {progress.total_seconds():.0f} s: {error}", file=sys.stderr)
        return 1
    print(f"all steps passed, in {progress.total_seconds():.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
