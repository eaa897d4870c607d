"""The two services, as ``twistd`` sees them: names only, nothing is imported."""

from twisted.application.service import ServiceMaker

xiaozhi_im = ServiceMaker(
    "XiaoZhi IM",
    "xiaozhi.im.tap",
    "The edge: XiaoZhi devices by WebSocket, the AI service by gRPC.",
    "xiaozhi-im",
)

xiaozhi_ai = ServiceMaker(
    "XiaoZhi AI",
    "xiaozhi.ai.tap",
    "The brain: recognition, dialogue, tools and speech behind gRPC and HTTP.",
    "xiaozhi-ai",
)
