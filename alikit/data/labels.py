"""What the labels of the labelled sets mean, known without opening one: classes, or attributes that a face has."""

#: data set -> its classes or attributes, in the order of its labels
LABELS: dict[str, tuple[str, ...]] = {
    "svhn": tuple("0123456789"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "celeba": (
        *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips"),
        *("Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin"),
        *("Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open"),
        *("Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline"),
        *("Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat"),
        *("Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young"),
    ),
}
#: sets whose images belong to one class each; the others have any number of attributes
CLASSED = ("svhn", "cifar10")
