"""Config sections `postprocess` and `evaluate`. Their defaults are defined only here."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cellmill.config.closed import Closed


class Threshold(Closed):
    """Probability threshold that separates foreground from background."""

    method: Literal["mcc", "fixed"] = Field(
        "mcc",
        description="mcc: the threshold with the highest Matthews correlation on the validation images, and on the "
        "training images as well if fewer than 10 validation images contain objects. fixed: the threshold set in "
        "`value`.",
    )
    value: float | None = Field(None, gt=0, lt=1, description="fixed: the threshold, a probability.")

    @model_validator(mode="after")
    def _value_goes_with_fixed(self) -> "Threshold":
        if self.method == "fixed" and self.value is None:
            raise ValueError("expected a value for method fixed, found none. Set value to a number between 0 and 1")
        if self.method == "mcc" and self.value is not None:
            raise ValueError(
                f"expected no value for method mcc, found {self.value}. Set method to fixed, or remove value"
            )
        return self


class Closing(Closed):
    """The closing of small gaps in the predicted mask, before and after boundary tuning."""

    footprint: Literal["cross", "square", "disk"] = Field(
        "cross", description="Shape of the neighbourhood. Paper 4 does not specify it; a cross is the library default."
    )
    radius_px: int = Field(
        1, ge=0, le=50, description="Radius of the neighbourhood in px of the preprocessed image; 0 turns closing off."
    )


class Boundary(Closed):
    """Classifier that relabels the pixels along the borders of the predicted mask (paper 4)."""

    classifier: Literal["svm", "bayes", "none"] = Field(
        "svm",
        description="svm: a support vector machine with a cubic kernel, stored as its exact polynomial. bayes: "
        "Gaussian naive Bayes. none: borders stay as predicted.",
    )
    apply: Literal["if_better", "always"] = Field(
        "if_better",
        description="if_better: only if it raises the mean Dice of the validation images. Without validation images: "
        "only if its accuracy on held-out images is higher than that of the existing labels. always: as in the paper.",
    )
    images: int = Field(200, ge=1, description="Number of training images from which boundary pixels are taken.")
    pixels_per_image: int = Field(50, ge=1, description="Number of boundary pixels taken from each of these images.")
    standardise: bool = Field(
        True,
        description="Scale grey value and Sobel magnitude to mean 0 and variance 1 first. The paper: false.",
    )
    coef0: float = Field(
        1.0,
        ge=0,
        description="svm: constant of the kernel. 1 gives a full cubic polynomial. 0, as in the paper (the library "
        "default), gives a homogeneous polynomial, whose result depends on the origin of the features.",
    )
    cost: float = Field(1.0, gt=0, description="svm: C, the penalty for a misclassified pixel.")
    scales_px: list[Annotated[float, Field(ge=0, le=20)]] = Field(
        default_factory=lambda: [0.0],
        min_length=1,
        max_length=4,
        description="Sigmas (px) of the Gaussians that smooth the image. The features are grey value and Sobel "
        "magnitude at each sigma; 0 is the image itself. The paper: [0].",
    )
    repeats: int = Field(
        10, ge=0, description="Number of random divisions used for the reported held-out accuracy; 0 omits it."
    )
    repeat_pixels: int = Field(
        2000,
        ge=10,
        description="svm: number of training pixels in each of these divisions (time grows with the square). The "
        "paper: 8000.",
    )


class Instances(Closed):
    """Splitting of the mask into objects, and object filters. All sizes are in pixels of the preprocessed image."""

    method: Literal["auto", "components", "watershed", "contour", "distance", "flow"] = Field(
        "auto",
        description="components: each connected foreground region is one object. watershed: split touching cells at "
        "narrow necks. contour: split along the predicted contours. distance: split at saddles between peaks of the "
        "predicted distance. flow: group pixels whose predicted flows converge. The last three need a network with "
        "this output. auto: the method with the highest mean Kaggle AP on the validation images, of those that the "
        "network allows (without validation images, the last of them).",
    )
    split_depth_px: float | None = Field(
        None,
        gt=0,
        description="watershed: split at a neck if its radius is at least this much smaller than that of the smaller "
        "part. Default: the best value of a short list on the validation images (1 if fewer than 10 of them "
        "contain objects).",
    )
    split_depth: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="contour, distance: split at a saddle that is at least this much below the lower of its two "
        "peaks, in units of the map (0 to 1). Default: the best value of a short list on the validation images (0.2 "
        "if fewer than 10 of them contain objects).",
    )
    max_flow_error: float | None = Field(
        0.8,
        gt=0,
        le=4,
        description="flow: drop objects whose own flow differs by more than this from the predicted flow (mean "
        "squared difference of the vectors), as in cellpose with 0.4. null keeps all objects.",
    )
    min_area_px: int | None = Field(
        None,
        ge=0,
        description="Drop smaller objects (px: number of pixels). Default: the best value on the validation images, "
        "from a short list of fractions of their median object area. If fewer than 10 validation images contain "
        "objects: the 5 % quantile of the areas of all annotated objects in training and validation images, at most a "
        "fifth of their median.",
    )
    min_area_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Drop objects that are smaller than this share of the median area of the objects found in the same "
        "image, whatever its magnification; 0 drops none. Default: 0, or 0.1 or 0.2 with min_area_px 0, whichever is "
        "best on the validation images (0 if fewer than 10 of them contain objects).",
    )
    max_area_px: int | None = Field(
        None, ge=1, description="Drop larger objects (px: number of pixels). Default: no upper limit."
    )
    min_solidity: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Drop objects with a lower solidity, which is area divided by convex-hull area. Default: no "
        "filter.",
    )
    exclude_border: bool = Field(
        False,
        description="Drop objects that are cut by the edge of the image. Scores of the final objects then exclude "
        "true objects cut by the edge.",
    )
    fill_holes_px: int | None = Field(
        None,
        ge=0,
        description="Fill holes up to this area (number of pixels); 0 fills none. Default: a quarter of the median "
        "object area of the validation images, and of the training images as well if fewer than 10 validation images "
        "contain objects (0 without objects).",
    )

    @model_validator(mode="after")
    def _sizes_leave_room(self) -> "Instances":
        if self.max_area_px is not None and (self.min_area_px or 0) > self.max_area_px:
            raise ValueError(
                f"expected min_area_px of at most max_area_px, found {self.min_area_px} and {self.max_area_px}, which "
                "would remove every object. Swap the two numbers"
            )
        return self


class Postprocess(Closed):
    """Conversion of probability maps to objects."""

    threshold: Threshold = Field(default_factory=Threshold, description="Conversion of probabilities to a mask.")
    closing: Closing = Field(default_factory=Closing, description="Closing of small gaps.")
    boundary: Boundary = Field(default_factory=Boundary, description="Tuning of the mask borders.")
    instances: Instances = Field(default_factory=Instances, description="Conversion of the mask to objects.")
    search_images: int = Field(
        100,
        ge=1,
        description="Number of validation images used to choose sizes and whether to use the boundary classifier. The "
        "threshold is chosen on all validation images. An image larger than 3072 x 3072 px is represented by eight "
        "windows, which count as images.",
    )


class Evaluate(Closed):
    """Scores and their confidence intervals."""

    bootstrap: int = Field(
        1000,
        ge=0,
        description="Number of bootstrap replicates over images for each 95 % confidence interval; 0 omits the "
        "intervals.",
    )
    border_tolerance_px: int = Field(
        2,
        ge=0,
        le=50,
        description="Largest distance at which object borders count as matching, for the boundary F1 score. In px of "
        "the raw image, and of the preprocessed image where both are scored.",
    )
    isbi2012: bool = Field(
        False,
        description="Also score cells in tissue as in ISBI 2012: V_rand and V_info of the regions that are separated "
        "by the predicted membranes, thinned to a line. This adds two predictors without a network: all foreground, "
        "and a single grey threshold. Foreground is the inside of cells.",
    )
