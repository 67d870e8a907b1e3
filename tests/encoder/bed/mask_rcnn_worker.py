"""torchvision's real Mask R-CNN, made to call squares a bed, on the whole way; run as a process of its own.

    python -m tests.encoder.bed.mask_rcnn_worker MANIFEST WORKSPACE

In a workspace with an encoder it imports the weights as a user would, looks for beds, and encodes.
"""

import sys
import tempfile
from pathlib import Path

import torch

from encoder.bed.torchvision_operators import import_detection

_BED = 65


def write_weights(path):
    """Of COCO's 91 classes, random but for what makes every square anchor a bed."""
    torch.manual_seed(0)
    model = import_detection().maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    with torch.no_grad():
        for part in (model.rpn.head.cls_logits, model.rpn.head.bbox_pred, model.roi_heads.box_predictor.bbox_pred):
            part.weight.zero_()
            part.bias.zero_()
        model.rpn.head.cls_logits.bias[:] = torch.tensor([-9.0, 9.0, -9.0])  # of three shapes of anchors
        model.roi_heads.box_predictor.cls_score.bias[_BED] = 8.0
    torch.save(model.state_dict(), path)


def main():
    manifest, workspace = sys.argv[1:]
    from semiome.app import app

    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "weights.pth"
        write_weights(weights)
        detector = ("--crop-detector", "maskrcnn", "--weights", str(weights), "--margin", "0.05")
        app(["encoder", "crop", *detector, "--workspace", workspace], standalone_mode=False)
    app(["encode", manifest, "--workspace", workspace], standalone_mode=False)


if __name__ == "__main__":
    main()
