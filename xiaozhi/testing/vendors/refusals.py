"""Errors as vendors report them with status 200, with their meaning.

Body (or event), code and whether a retry may help, and the text that must be in the log.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Refusal(NamedTuple):
    """One error report."""

    body: Any
    code: str
    words: str

    @property
    def retryable(self) -> bool:
        return self.code in ("rate_limited", "vendor_error", "timeout")


AUTH, UNPAID, RATE, REFUSED = "unauthorized", "unpaid", "rate_limited", "refused"
VENDOR, BAD, MISSING = "vendor_error", "bad_request", "not_found"

REFUSALS = [
    # {"error": …}
    Refusal({"error": "model is overloaded"}, VENDOR, "model is overloaded"),
    Refusal({"error": "model 'x' not found, try pulling it first"}, MISSING, "model 'x' not found"),
    Refusal({"error": {"message": "Rate limit reached", "type": "requests", "code": None}}, RATE,
            "Rate limit reached"),
    Refusal({"error": {"message": "no", "code": 401}}, AUTH, "no"),
    Refusal({"error": {"message": "slow down", "code": "429"}}, RATE, "slow down"),
    Refusal({"error": {"message": "gone", "code": 502}, "user_id": "u"}, VENDOR, "gone"),
    Refusal({"error": {"message": "You exceeded your current quota", "type": "insufficient_quota",
        "code": "insufficient_quota"}}, UNPAID, "You exceeded your current quota"),
    Refusal({"error": {"message": "Incorrect API key provided", "type": "invalid_request_error",
        "code": "invalid_api_key"}}, AUTH, "Incorrect API key"),
    Refusal({"error": {"message": "bad", "type": "invalid_request_error", "param": "messages"}},
        BAD, "bad"),
    Refusal({"error": {"code": "1302", "message": "您的账户已达到速率限制"}}, RATE, "速率限制"),
    Refusal({"error": {"code": "1113", "message": "您的账户已欠费"}}, UNPAID, "欠费"),
    Refusal({"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全内容"}},
        REFUSED, "不安全内容"),
    Refusal({"error": {"code": "data_inspection_failed", "message": "Input data may contain x"}},
        REFUSED, "Input data may contain"),
    Refusal({"error": {"error": {"message": "twice", "type": "server_error"}}}, VENDOR, "twice"),
    Refusal({"error": True, "message": "Internal"}, VENDOR, "Internal"),
    Refusal({"error": 500, "message": "broken"}, VENDOR, "broken"),
    Refusal({"error": "invalid_request", "error_description": "no model given"}, BAD, "no model"),
    Refusal({"error": ["first", "second"]}, VENDOR, "first"),
    Refusal({"errors": [{"code": 10000, "message": "Authentication error"}], "success": False},
        AUTH, "Authentication error"),
    Refusal([{"error": {"code": 503, "message": "The model is overloaded.",
        "status": "UNAVAILABLE"}}], VENDOR, "The model is overloaded"),
    Refusal({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        VENDOR, "Overloaded"),
    Refusal({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400},
        BAD, "too long"),
    # {"code", "message"} and similar
    Refusal({"code": 10163, "message": "param validate error", "sid": "cht1"}, BAD,
        "10163: param validate error"),
    Refusal({"code": 11200, "message": "AppIdNoAuthError", "sid": "s"}, AUTH, "AppIdNoAuthError"),
    Refusal({"code": 11201, "message": "over", "sid": "s"}, UNPAID, "11201: over"),
    Refusal({"code": 10013, "message": "no", "sid": "s"}, REFUSED, "10013"),
    Refusal({"code": "InvalidApiKey", "message": "Invalid API-key provided.", "request_id": "r"},
        AUTH, "Invalid API-key provided"),
    Refusal({"code": "Arrearage", "message": "Access denied", "request_id": "r"}, UNPAID,
        "Arrearage"),
    Refusal({"code": "Throttling.RateQuota", "message": "Requests throttled"}, RATE, "throttled"),
    Refusal({"code": "ModelNotFound", "message": "x"}, MISSING, "ModelNotFound: x"),
    Refusal({"code": "InternalError.Algo", "message": "x"}, VENDOR, "InternalError.Algo"),
    Refusal({"code": 500, "msg": "404 NOT_FOUND", "success": False}, VENDOR, "404 NOT_FOUND"),
    Refusal({"code": 401, "msg": "令牌已过期或验证不正确", "success": False}, AUTH, "令牌已过期"),
    Refusal({"code": 30001, "message": "Sorry, your account is out", "data": None}, UNPAID,
        "your account is out"),
    Refusal({"code": 50505, "message": "Model service overloaded."}, VENDOR, "overloaded"),
    Refusal({"code": 4101, "msg": "no", "detail": {"logid": "l"}}, AUTH, "4101: no"),
    Refusal({"code": 4013, "msg": "no"}, RATE, "4013: no"),
    Refusal({"code": -1, "msg": "unknown"}, VENDOR, "-1: unknown"),
    Refusal({"Code": "AuthFailure.SecretIdNotFound", "Message": "x"}, AUTH, "AuthFailure"),
    # {"error_code", "error_msg"}
    Refusal({"error_code": 17, "error_msg": "Open api daily request limit reached", "id": "a"},
        UNPAID, "17: Open api daily request limit reached"),
    Refusal({"error_code": 18, "error_msg": "Open api qps request limit reached"}, RATE,
        "qps request limit"),
    Refusal({"error_code": 110, "error_msg": "Access token invalid or no longer valid"}, AUTH,
        "Access token invalid"),
    Refusal({"error_code": 336501, "error_msg": "Rate limit reached for RPM"}, RATE, "RPM"),
    Refusal({"err_no": 3303, "err_msg": "server busy"}, VENDOR, "server busy"),
    Refusal({"errcode": 40001, "errmsg": "invalid credential"}, AUTH, "invalid credential"),
    Refusal({"errorCode": 5, "errorMessage": "whatever"}, VENDOR, "5: whatever"),
    # MiniMax
    Refusal({"base_resp": {"status_code": 1004, "status_msg": "login fail"}, "choices": None},
        AUTH, "1004: login fail"),
    Refusal({"id": "x", "choices": [], "object": "", "usage": {"total_tokens": 0},
        "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, UNPAID,
        "insufficient balance"),
    Refusal({"base_resp": {"status_code": 1002, "status_msg": "x"}}, RATE, "1002: x"),
    Refusal({"base_resp": {"status_code": 1027, "status_msg": "x"}}, REFUSED, "1027: x"),
    Refusal({"base_resp": {"status_code": 2013, "status_msg": "x"}}, BAD, "2013: x"),
    Refusal({"base_resp": {"status_code": 1000, "status_msg": "x"}}, VENDOR, "1000: x"),
    # {"header": …}, {"Response": …}, {"ResponseMetadata": …}
    Refusal({"header": {"code": 10313, "message": "invalid appid", "sid": "s", "status": 2}},
        AUTH, "invalid appid"),
    Refusal({"header": {"code": 10110, "message": "xx", "sid": "s"}}, VENDOR, "10110: xx"),
    Refusal({"Response": {"Error": {"Code": "RequestLimitExceeded", "Message": "x"},
        "RequestId": "r"}}, RATE, "RequestLimitExceeded"),
    Refusal({"ResponseMetadata": {"RequestId": "r", "Error": {"CodeN": 100010,
        "Code": "SignatureDoesNotMatch", "Message": "The signature is wrong"}}}, AUTH,
        "The signature is wrong"),
    # Text alone
    Refusal({"message": "No API key found in request"}, AUTH, "No API key found"),
    Refusal({"detail": "Not Found"}, VENDOR, "Not Found"),
    Refusal({"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}, BAD,
        "field required"),
    Refusal({"msg": "服务器繁忙，请稍后再试"}, VENDOR, "服务器繁忙"),
    Refusal({"status": "error", "message": "timed out"}, "timeout", "timed out"),
    Refusal({"success": False, "message": "whatever"}, VENDOR, "whatever"),
    Refusal({"status": 429, "title": "Too Many Requests"}, RATE, "Too Many Requests"),
]  # fmt: skip
