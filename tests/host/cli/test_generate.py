"""``generate``: what it writes, what it refuses in one line, and what an interrupted run leaves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from ditto_zynq.hls.artefact.model import save
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.quantize import quantize_denoiser
from PIL import Image

from tests.host.cli.commands import invoke, refused
from tests.pipelines import unet2d

RUN = [sys.executable, "-m", "ditto_zynq.host.cli"]


def test_generate_writes_a_grid(tiny_folder, tmp_path, model_reads):
    output = tmp_path / "images.png"
    result = invoke("generate", tiny_folder, "-n", 5, "-o", output, "--batch", 2, "--quiet")
    assert result.exit_code == 0, result.output
    image = np.asarray(Image.open(output))
    assert image.shape == (36, 156, 3) and len(np.unique(image)) > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.png", "model"]
    assert "device: emulator" in result.stderr and len(model_reads) == 1


def test_images_and_summary_are_two_files(tiny_folder, tmp_path):
    output = tmp_path / "images.png"
    result = invoke("generate", tiny_folder, "-n", 1, "-o", output, "--summary", output, "--quiet")
    assert result.exit_code == 1 and "for the images and the summary, expected two files" in result.stderr
    assert not output.exists()


def test_generate_writes_arrays_and_a_summary(tiny_folder, tmp_path):
    output, summary = tmp_path / "images.npz", tmp_path / "cycles.txt"
    result = invoke("generate", tiny_folder, "-n", 3, "-o", output, "--labels", "0,2", "--summary", summary, "--quiet")
    assert result.exit_code == 0, result.output
    arrays = np.load(output)
    assert arrays["images"].shape == (3, 8, 8, 3) and arrays["labels"].tolist() == [0, 2, 0]
    text = summary.read_text()
    assert "emulated, not measured on a board" in text and "conv_out" in text
    took = re.search(r"[\d.]+ ms per image on zcu104 at 250 MHz .*", text).group()
    assert took.endswith("(emulated): 3 images in a batch, 6 steps, flow difference") and took in result.stdout


def test_the_time_names_what_it_is_of(tiny_folder, tmp_path):
    """Times of other flows and batches are others; one image is no images."""
    options = ["--flow", "defo", "--batch", 2, "--summary", tmp_path / "x.txt", "--quiet"]
    several = invoke("generate", tiny_folder, "-n", 3, "-o", tmp_path / "x.png", *options)
    assert "3 images in batches of 2, 6 steps, flow defo; cycles of each layer: " in several.stdout, several.output
    one = invoke("generate", tiny_folder, "-n", 1, "-o", tmp_path / "x.png", *options)
    assert one.stdout.startswith("1 image: ") and "1 image in a batch, 6 steps, flow defo" in one.stdout


@pytest.mark.parametrize("command", ["generate", "profile"])
def test_labels_of_a_model_without_classes_are_refused(tmp_path, command):
    model = quantize_denoiser(
        unet2d(), {}, Schedule("ddim", 2, 0.0, 1), Options(1, norm=0.0, correct_biases=False, fine=0)
    )
    save(model, tmp_path / "model")
    refusal = refused(invoke(command, tmp_path / "model", "--labels", "0-9", "-o", tmp_path / "x.png"))
    assert refusal == "Error: found --labels 0-9, but the model has no classes; leave --labels out"


def test_equal_seeds_give_equal_images_in_any_batch_and_flow(tiny_folder, tmp_path):
    samples = []
    for index, options in enumerate((["--batch", 1], ["--batch", 4], ["--flow", "original"], ["--seed", 1])):
        output = tmp_path / f"{index}.npz"
        assert invoke("generate", tiny_folder, "-n", 4, "-o", output, "--quiet", *options).exit_code == 0
        samples.append(np.load(output)["samples"])
    assert np.array_equal(samples[0], samples[1]) and np.array_equal(samples[0], samples[2])
    assert not np.array_equal(samples[0], samples[3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--board", "zcu999"], "found board 'zcu999', expected one of zcu104"),
        (["--device", "gpu"], "found device 'gpu', expected auto, board, remote:[TOKEN@]HOST[:PORT], emulator"),
        (["--device", "board"], "no bitstream has been built for zcu104, configuration"),
        (["--backend", "tpu"], "found backend 'tpu', expected one of vnni, int16, numpy"),
        (["--labels", "0,9"], "found label 9, expected 0 to 2"),
        (["--labels", "9223372036854775808"], "found label 9223372036854775808, expected 0 to 2"),
        (["--labels", "0-99999999999999999999"], "found labels '0-99999999999999999999', expected numbers and ranges"),
        (["--labels", "shoes"], "found labels 'shoes', expected numbers and ranges such as 0-3,7"),
        (["--flow", "both"], "found execution flow 'both'"),
        (["-n", "0"], "0 is not in the range 1<=x<=1000000"),
        (["--deadline", "0"], "found a deadline of 0 s, expected more than 0"),
        (["--workers", "0"], "0 is not in the range 1<=x<=256"),
        (["--workers", "1", "--cluster", "tcp://x:1"], "found --workers and --cluster, expected one of them"),
        (["--cluster", "tcp://127.0.0.1:1"], "no Dask scheduler answers at tcp://127.0.0.1:1"),
        (["--batch", "60000", "-n", "60000"], "use a batch of at most"),
        (["--batch", "65536"], "65536 is not in the range 1<=x<=65535"),
        (["-o", "images.gif"], "expected a file that ends in .png or .npz"),
        (["-o", "/nowhere/images.png"], "expected a file in a folder that exists"),
        (["--hardware", "/nowhere.json"], "no readable hardware configuration"),
    ],
)
def test_bad_options_are_refused_in_one_line(tiny_folder, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(invoke("generate", tiny_folder, "--quiet", *options))
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "something was left behind"


def test_an_interrupted_run_goes_on(tiny_folder, tmp_path, monkeypatch):
    output = tmp_path / "images.npz"
    summary = tmp_path / "cycles.txt"
    arguments = ("generate", tiny_folder, "-n", 6, "-o", output, "--batch", 2, "--quiet", "--summary", summary)
    denoise = Model.denoise
    batches = []

    def interrupted_in_the_third(self, indices, *rest):
        batches.append(indices.tolist())
        if len(batches) == 3:
            raise KeyboardInterrupt
        return denoise(self, indices, *rest)

    monkeypatch.setattr(Model, "denoise", interrupted_in_the_third)
    result = invoke(*arguments)
    assert result.exit_code == 130 and not output.exists()
    assert "interrupted: 4 of 6 images are kept; run the same command to go on" in result.stderr
    assert invoke(*arguments).exit_code == 0
    assert batches == [[0, 1], [2, 3], [4, 5], [4, 5]], "finished batches were computed again"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cycles.txt", "images.npz", "model"]
    monkeypatch.undo()
    resumed = summary.read_text()
    summary.unlink()
    invoke(*arguments)
    assert summary.read_text() == resumed, "the counters of the finished batches were lost"
    whole = tmp_path / "whole.npz"
    invoke("generate", tiny_folder, "-n", 6, "-o", whole, "--quiet")
    assert np.array_equal(np.load(whole)["samples"], np.load(output)["samples"])


def press_control_c(process: subprocess.Popen, finished: Callable[[], int]) -> str:
    """What the process says until it ends. Pressed again where it goes on: Python swallows an interrupt in a destructor."""
    for _ in range(6):
        before = finished()
        process.send_signal(signal.SIGINT)
        while process.poll() is None and finished() < before + 3:  # batches: the interrupt was swallowed
            time.sleep(0.01)
        if process.poll() is not None:
            return process.communicate()[1]
    process.kill()
    raise AssertionError("still running after six interrupts")


def test_a_real_interrupt_leaves_no_traceback(tiny_folder, tmp_path):
    command = [*RUN, "generate", str(tiny_folder), "-n", "100000", "-o", str(tmp_path / "images.npz"), "--quiet"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=os.setsid)

    def finished() -> int:
        return len(list(tmp_path.glob("*.partial-*/*.npz")))

    while not finished():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    stderr = press_control_c(process, finished)
    assert process.returncode == 130
    assert "images are kept; run the same command to go on" in stderr and "Traceback" not in stderr
