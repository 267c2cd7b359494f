"""The smallest sizes that keep SAM 3's graph whole, for tests that train."""

from models.sam3.network.config import DetectorConfig, Sam3Config, TextConfig, VisionConfig

TINY = Sam3Config(
    vision=VisionConfig(
        image_size=56,
        dim=32,
        mlp_dim=64,
        num_blocks=2,
        num_heads=2,
        window=2,
        global_blocks=(1,),
        pretrain_grid=2,
        neck_dim=16,
    ),
    text=TextConfig(
        vocab_size=1024,
        dim=16,
        mlp_dim=32,
        num_blocks=1,
        num_heads=2,
        context_length=16,
        projection_dim=16,
    ),
    detector=DetectorConfig(
        dim=16,
        num_heads=2,
        mlp_dim=32,
        exemplar_layers=1,
        fusion_layers=1,
        decoder_layers=2,
        num_queries=9,
    ),
)
